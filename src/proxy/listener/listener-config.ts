/** envoy.config.listener.v3.Listener, checked and compiled. Opens nothing; usable in any thread. */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type FilterChain as FilterChainMessage,
  FilterChainSchema,
  type ListenerFilter,
  ListenerFilterSchema,
} from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener as ListenerMessage, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { DownstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { type AccessLog, compileAccessLog } from "../accesslog/access-log.ts";
import type { CompileContext } from "../compile-context.ts";
import { durationMs } from "../duration.ts";
import { compileListenerFilters, type ListenerFilters, proxyProtocolName } from "../filters/listener/index.ts";
import { compileNetworkFilters } from "../filters/network/index.ts";
import { ServerTls } from "../tls/server-context.ts";
import type { DownstreamConnection } from "./downstream-connection.ts";
import { FilterChainMatcher } from "./filter-chain-match.ts";
import { ListenerDrain } from "./listener-drain.ts";
import type { TerminalNetworkFilter } from "./network-filter.ts";

export interface BindAddress {
  /** IP address, or a path with port -1. */
  readonly host: string;
  readonly port: number;
  /** IPv4 comes to this address of IPv6 too. */
  readonly takesIpv4: boolean;
}

/** A chain as it runs. It outlives its listener's replacement when the new one has the very same chain. */
export interface FilterChain {
  readonly name: string;
  /** A hash of all that makes two chains the same. */
  readonly identity: string;
  readonly tls: ServerTls | null;
  readonly filter: TerminalNetworkFilter | null;
  readonly connectTimeoutMs: number;
  readonly drain: ListenerDrain;
  readonly connections: Set<DownstreamConnection>;
}

export interface ListenerConfig {
  readonly name: string;
  readonly addresses: readonly BindAddress[];
  readonly bindsToPort: boolean;
  readonly reusesPort: boolean;
  readonly usesOriginalDestination: boolean;
  readonly isTransparent: boolean;
  readonly backlog: number;
  readonly trafficDirection: "inbound" | "outbound" | "unspecified";
  readonly listenerFilters: ListenerFilters;
  readonly listenerFiltersTimeoutMs: number;
  readonly continuesOnTimeout: boolean;
  readonly matcher: FilterChainMatcher<FilterChain>;
  readonly chains: readonly FilterChain[];
  readonly accessLogs: readonly AccessLog[];
  /** `listener.127.0.0.1_8080.` */
  readonly statPrefix: string;
}

const directions: Record<TrafficDirection, ListenerConfig["trafficDirection"]> = {
  [TrafficDirection.UNSPECIFIED]: "unspecified",
  [TrafficDirection.INBOUND]: "inbound",
  [TrafficDirection.OUTBOUND]: "outbound",
};

/** `previous`: chains that did not change are taken over from it, with their connections. */
export function compileListener(message: ListenerMessage, context: CompileContext, previous?: ListenerConfig): ListenerConfig {
  if (message.udpListenerConfig !== undefined || message.address?.address.case === "envoyInternalAddress") {
    throw new ConfigError(`listener ${message.name}: only TCP listeners are supported by this proxy`);
  }
  if (message.filterChainMatcher !== undefined)
    throw new ConfigError(`listener ${message.name}: filter_chain_matcher is not supported by this proxy`);
  const addresses = [message.address, ...message.additionalAddresses.map((additional) => additional.address)].map((address) =>
    bindAddress(message.name, address),
  );
  const statPrefix = `listener.${(message.statPrefix || addressText(addresses[0]!)).replaceAll(":", "_")}.`;
  const trafficDirection = directions[message.trafficDirection] ?? "unspecified";
  const bufferLimitBytes = message.perConnectionBufferLimitBytes ?? 1024 * 1024;
  const listenerFilters = compileListenerFilters(listenerFiltersOf(message), context.stats);
  // Everything but the chains: if it changed, no chain is the same.
  const frame = toBinary(ListenerSchema, { ...message, filterChains: [], defaultFilterChain: undefined });
  const known = new Map(previous?.chains.map((chain) => [chain.identity, chain]));
  const compile = (chain: FilterChainMessage): FilterChain => {
    const identity = createHash("sha256").update(frame).update(toBinary(FilterChainSchema, chain)).digest("base64url");
    const same = known.get(identity);
    if (same !== undefined) return same;
    return {
      name: chain.name,
      identity,
      tls: compileTransport(chain, context),
      filter: compileNetworkFilters(chain.filters, { ...context, listenerStatPrefix: statPrefix, trafficDirection, bufferLimitBytes }),
      connectTimeoutMs: durationMs(chain.transportSocketConnectTimeout, 0),
      drain: new ListenerDrain(),
      connections: new Set(),
    };
  };
  const chains = message.filterChains.map((chain) => [compile(chain), chain.filterChainMatch] as const);
  const fallback = message.defaultFilterChain === undefined ? null : compile(message.defaultFilterChain);
  if (chains.length === 0 && fallback === null) {
    throw new ConfigError(`error adding listener '${addressText(addresses[0]!)}': no filter chains specified`);
  }
  return {
    name: message.name || addressText(addresses[0]!),
    addresses,
    bindsToPort: message.bindToPort ?? true,
    reusesPort: message.enableReusePort ?? true,
    usesOriginalDestination: message.useOriginalDst ?? false,
    isTransparent: message.transparent ?? false,
    backlog: message.tcpBacklogSize ?? 4096,
    trafficDirection,
    listenerFilters,
    listenerFiltersTimeoutMs: durationMs(message.listenerFiltersTimeout, 15_000),
    continuesOnTimeout: message.continueOnListenerFiltersTimeout,
    matcher: new FilterChainMatcher(chains, fallback),
    chains: [...chains.map(([chain]) => chain), ...(fallback === null ? [] : [fallback])],
    accessLogs: message.accessLog.map((log) => compileAccessLog(log, context.accessLog)),
    statPrefix,
  };
}

/** `use_proxy_proto` of the first chain stands for the filter, behind all others. */
function listenerFiltersOf({ listenerFilters, filterChains, defaultFilterChain }: ListenerMessage): readonly ListenerFilter[] {
  const [first = defaultFilterChain] = filterChains;
  return first?.useProxyProto === true ? [...listenerFilters, create(ListenerFilterSchema, { name: proxyProtocolName })] : listenerFilters;
}

function bindAddress(listener: string, address: Address | undefined): BindAddress {
  if (address?.address.case === "pipe") return { host: address.address.value.path, port: -1, takesIpv4: false };
  if (address?.address.case !== "socketAddress") throw new ConfigError(`listener ${listener}: address: value is required`);
  const socket = address.address.value;
  if (socket.portSpecifier.case !== "portValue") throw new ConfigError(`listener ${listener}: address must have a port_value`);
  if (socket.portSpecifier.value > 65535) throw new ConfigError("SocketAddress: port_value: value must be less than or equal to 65535");
  if (isIP(socket.address) === 0) throw new ConfigError(`malformed IP address: ${socket.address}`);
  return { host: socket.address, port: socket.portSpecifier.value, takesIpv4: socket.ipv4Compat };
}

export function addressText({ host, port }: Pick<BindAddress, "host" | "port">): string {
  if (port < 0) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function compileTransport(chain: FilterChainMessage, context: CompileContext): ServerTls | null {
  const socket = chain.transportSocket;
  if (socket === undefined) return null;
  const any = socket.configType.case === "typedConfig" ? socket.configType.value : undefined;
  const typeName = any?.typeUrl.replace(/^.*\//, "") ?? "";
  if (typeName === "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") return null;
  if (any === undefined && socket.name === "envoy.transport_sockets.raw_buffer") return null;
  if (any !== undefined && typeName === DownstreamTlsContextSchema.typeName) {
    return new ServerTls(anyUnpack(any, DownstreamTlsContextSchema)!, {
      secrets: context.secrets,
      sessions: context.tlsSessions,
      serverNames: chain.filterChainMatch?.serverNames ?? [],
    });
  }
  throw new ConfigError(`Didn't find a registered implementation for '${socket.name}' with type URL: '${typeName}'`);
}
