/** The network filters that this proxy has. To add one: its file, and its line here. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../../api/config-error.ts";
import { resolveTypedStruct } from "../../../api/envoy/typed-struct.ts";
import type { Filter } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type {
  NetworkFilterContext,
  NetworkFilterDefinition,
  NetworkReadFilter,
  TerminalNetworkFilter,
} from "../../listener/network-filter.ts";
import { NetworkFilterChain } from "../../listener/network-filter-chain.ts";
import { extAuthz } from "./ext-authz.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { istioStats } from "./istio-stats.ts";
import { localRateLimit } from "./local-ratelimit.ts";
import { metadataExchange } from "./metadata-exchange.ts";
import { rateLimit } from "./ratelimit.ts";
import { rbac } from "./rbac.ts";
import { setFilterState } from "./set-filter-state.ts";
import { tcpProxy } from "./tcp-proxy.ts";

/** Sorted by name. */
export const networkFilters: readonly NetworkFilterDefinition[] = [
  extAuthz,
  httpConnectionManager,
  istioStats,
  localRateLimit,
  metadataExchange,
  rateLimit,
  rbac,
  setFilterState,
  tcpProxy,
];

const byTypeName = new Map(networkFilters.map((filter) => [filter.schema.typeName, filter]));

/** The chain as one filter that takes connections; null for an empty chain, whose connections are closed. */
export function compileNetworkFilters(messages: readonly Filter[], context: NetworkFilterContext): TerminalNetworkFilter | null {
  const filters: NetworkReadFilter[] = [];
  for (const [index, message] of messages.entries()) {
    const any = configOf(message);
    const definition = definitionOf(message.name, any);
    const made = definition.create(fromBinary(definition.schema, any.value) as never, context, message.name);
    const isLast = index === messages.length - 1;
    if (!("isTerminal" in made)) {
      filters.push(made);
      if (!isLast) continue;
      throw new ConfigError(
        `Error: non-terminal filter named ${message.name} of type ${definition.name} is the last filter in a network filter chain.`,
      );
    }
    if (isLast) return filters.length === 0 ? made : new NetworkFilterChain(filters, made);
    throw new ConfigError(
      `Error: terminal filter named ${message.name} of type ${definition.name} must be the last filter in a network filter chain.`,
    );
  }
  return null;
}

function configOf({ name, configType }: Filter): Any {
  if (configType.case === "typedConfig") return resolveTypedStruct(configType.value);
  if (configType.case === undefined) throw unknownFilter(name, "");
  throw new ConfigError(`config_discovery of filter '${name}' is not supported by this proxy yet`);
}

function definitionOf(name: string, { typeUrl }: Any): NetworkFilterDefinition {
  const typeName = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
  const definition = byTypeName.get(typeName);
  if (definition === undefined) throw unknownFilter(name, typeName);
  return definition;
}

function unknownFilter(name: string, typeName: string): ConfigError {
  return new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
}
