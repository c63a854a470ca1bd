/** The HTTP filters that this proxy has, and how a chain of them is compiled. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../../api/config-error.ts";
import { resolveTypedStruct } from "../../../api/envoy/typed-struct.ts";
import { FilterConfigSchema } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { HttpFilter as HttpFilterMessage } from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { CompileContext } from "../../compile-context.ts";
import type { FilterCompileContext, HttpFilter, HttpFilterDefinition, TerminalFilter } from "../../http/http-filter.ts";
import { alpn } from "./alpn.ts";
import { cors } from "./cors.ts";
import { disabledFilter } from "./disabled-filter.ts";
import { extAuthz } from "./ext-authz/ext-authz.ts";
import { fault } from "./fault.ts";
import { grpcStats } from "./grpc-stats.ts";
import { grpcWeb } from "./grpc-web.ts";
import { headerMutation } from "./header-mutation.ts";
import { healthCheck } from "./health-check.ts";
import { istioStats } from "./istio-stats.ts";
import { jwtAuthn } from "./jwt-authn/jwt-authn.ts";
import { localRateLimit } from "./local-ratelimit.ts";
import { peerMetadata } from "./peer-metadata.ts";
import { rateLimit } from "./ratelimit/ratelimit.ts";
import { rbac } from "./rbac.ts";
import { router } from "./router.ts";
import { setFilterState } from "./set-filter-state.ts";
import { setMetadata } from "./set-metadata.ts";

/** Sorted by name. To add a filter: its file, and its line here. */
export const httpFilters: readonly HttpFilterDefinition[] = [
  alpn,
  cors,
  extAuthz,
  fault,
  grpcStats,
  grpcWeb,
  headerMutation,
  healthCheck,
  istioStats,
  jwtAuthn,
  localRateLimit,
  peerMetadata,
  rateLimit,
  rbac,
  router,
  setFilterState,
  setMetadata,
];

const byTypeName = new Map(httpFilters.map((filter) => [filter.schema.typeName, filter]));
const byName = new Map(httpFilters.map((filter) => [filter.name, filter]));

export interface FilterChainParts {
  readonly filters: readonly HttpFilter[];
  readonly terminal: TerminalFilter;
}

export function compileHttpFilters(messages: readonly HttpFilterMessage[], context: FilterCompileContext): FilterChainParts {
  const filters: HttpFilter[] = [];
  let terminal: TerminalFilter | null = null;
  for (const [index, message] of messages.entries()) {
    const made = compileHttpFilter(message, { ...context, slot: index });
    if (made === null) continue;
    const isLast = index === messages.length - 1;
    if ("isTerminal" in made) {
      if (!isLast)
        throw new ConfigError(
          `Error: terminal filter named ${message.name} of type envoy.filters.http.router must be the last filter in a http filter chain.`,
        );
      terminal = made;
    } else {
      if (isLast) {
        throw new ConfigError(
          `Error: non-terminal filter named ${message.name} of type ${definitionOf(message)?.name} is the last filter in a http filter chain.`,
        );
      }
      filters.push(made);
    }
  }
  if (terminal === null) throw new ConfigError("Error: http filter chain has no terminal filter; the router filter must be last.");
  return { filters, terminal };
}

function compileHttpFilter(message: HttpFilterMessage, context: FilterCompileContext): HttpFilter | TerminalFilter | null {
  if (message.name === "") throw new ConfigError("HttpFilter: name: value length must be at least 1 characters");
  if (message.configType.case === "configDiscovery") {
    throw new ConfigError(`config_discovery of filter '${message.name}' is not supported by this proxy yet`);
  }
  const any = typedConfigOf(message);
  const definition = definitionOf(message);
  if (any === undefined && definition !== undefined) {
    context.warn(`filter '${message.name}' has no typed_config; its defaults are used`);
  }
  if (definition === undefined) {
    if (message.isOptional) return null;
    throw new ConfigError(
      `Didn't find a registered implementation for '${message.name}' with type URL: '${any === undefined ? "" : typeNameOf(any)}'`,
    );
  }
  const config = fromBinary(definition.schema, any?.value ?? new Uint8Array());
  return definition.create(config as never, context, message.name);
}

/** Envoy of old looked filters up by name; tutorials still show it. Today's Envoy refuses what has no type. */
function definitionOf(message: HttpFilterMessage): HttpFilterDefinition | undefined {
  const any = typedConfigOf(message);
  return any === undefined ? byName.get(message.name) : byTypeName.get(typeNameOf(any));
}

function typedConfigOf({ configType }: HttpFilterMessage): Any | undefined {
  return configType.case === "typedConfig" ? resolveTypedStruct(configType.value) : undefined;
}

/** `typed_per_filter_config`: what each filter makes of its own. A FilterConfig around it may disable the filter. */
export function compilePerFilterConfig(config: { readonly [name: string]: Any }, context: CompileContext): ReadonlyMap<string, unknown> {
  const compiled = new Map<string, unknown>();
  for (const [name, any] of Object.entries(config)) {
    let inner: Any | undefined = any;
    let isOptional = false;
    if (typeNameOf(any) === FilterConfigSchema.typeName) {
      const wrapper = fromBinary(FilterConfigSchema, any.value);
      isOptional = wrapper.isOptional;
      if (wrapper.disabled) {
        compiled.set(name, disabledFilter);
        continue;
      }
      inner = wrapper.config;
      if (inner === undefined) continue;
    }
    inner = resolveTypedStruct(inner);
    const typeName = typeNameOf(inner);
    const definition = httpFilters.find((filter) => filter.perRoute?.schema.typeName === typeName);
    if (definition?.perRoute === undefined) {
      if (isOptional) continue;
      throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
    }
    compiled.set(name, definition.perRoute.compile(fromBinary(definition.perRoute.schema, inner.value) as never, context));
  }
  return compiled;
}

function typeNameOf(any: Any): string {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
}
