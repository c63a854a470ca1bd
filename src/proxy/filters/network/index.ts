/** The network filters that this proxy has. To add one: its file, and its line here. */
import { fromBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import type { Filter } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { NetworkFilter, NetworkFilterContext, NetworkFilterDefinition } from "../../listener/network-filter.ts";
import { httpConnectionManager } from "./http-connection-manager.ts";
import { tcpProxy } from "./tcp-proxy.ts";

/** Sorted by name. */
export const networkFilters: readonly NetworkFilterDefinition[] = [httpConnectionManager, tcpProxy];

const byTypeName = new Map(networkFilters.map((filter) => [filter.schema.typeName, filter]));

/** Compiles the chain's filters; the last one owns the connections. null for an empty chain, whose connections are closed. */
export function compileNetworkFilters(messages: readonly Filter[], context: NetworkFilterContext): NetworkFilter | null {
  let last: NetworkFilter | null = null;
  for (const [index, message] of messages.entries()) {
    const any = message.configType.case === "typedConfig" ? message.configType.value : undefined;
    if (message.configType.case === "configDiscovery") {
      throw new ConfigError(`config_discovery of filter '${message.name}' is not supported by this proxy yet`);
    }
    const typeName = any === undefined ? "" : any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
    const definition = byTypeName.get(typeName);
    if (definition === undefined) {
      throw new ConfigError(`Didn't find a registered implementation for '${message.name}' with type URL: '${typeName}'`);
    }
    if (index < messages.length - 1) {
      throw new ConfigError(
        `Error: terminal filter named ${message.name} of type ${definition.name} must be the last filter in a network filter chain.`,
      );
    }
    last = definition.create(fromBinary(definition.schema, any!.value) as never, context, message.name);
  }
  return last;
}
