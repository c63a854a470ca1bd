/** The listener filters that this proxy has: what they look for in the first bytes of a connection, or in its socket. */

import type { DescMessage } from "@bufbuild/protobuf";
import { create, fromBinary, isMessage } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import { resolveTypedStruct } from "../../../api/envoy/typed-struct.ts";
import type {
  ListenerFilter,
  ListenerFilterChainMatchPredicate,
} from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { HttpInspectorSchema } from "../../../api/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../../api/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { OriginalSrcSchema } from "../../../api/gen/envoy/extensions/filters/listener/original_src/v3/original_src_pb.js";
import { ProxyProtocolSchema } from "../../../api/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { TlsInspectorSchema } from "../../../api/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import type { StatsStore } from "../../stats/store.ts";
import type { OriginalSource } from "../../upstream/client-view.ts";
import { ProxyProtocolFilter } from "./proxy-protocol.ts";

type ListenerFilterKind = "httpInspector" | "originalDst" | "originalSrc" | "proxyProtocol" | "tlsInspector";

interface ListenerFilterDefinition {
  readonly name: string;
  readonly schema: DescMessage;
  readonly kind: ListenerFilterKind;
}

export const proxyProtocolName = "envoy.filters.listener.proxy_protocol";

/** Sorted by name. */
export const listenerFilters: readonly ListenerFilterDefinition[] = [
  { name: "envoy.filters.listener.http_inspector", schema: HttpInspectorSchema, kind: "httpInspector" },
  { name: "envoy.filters.listener.original_dst", schema: OriginalDstSchema, kind: "originalDst" },
  { name: "envoy.filters.listener.original_src", schema: OriginalSrcSchema, kind: "originalSrc" },
  { name: proxyProtocolName, schema: ProxyProtocolSchema, kind: "proxyProtocol" },
  { name: "envoy.filters.listener.tls_inspector", schema: TlsInspectorSchema, kind: "tlsInspector" },
];

export interface ListenerFilters {
  /** Of each filter that is there, whether it leaves out connections to a port (`filter_disabled`). */
  readonly leavesOut: ReadonlyMap<ListenerFilterKind, (port: number) => boolean>;
  /** `mark` of original_src. */
  readonly sourceMark: number;
  readonly proxyProtocol: ProxyProtocolFilter | null;
  /** Some filter wants to see what a client says first. */
  readonly readsFirstBytes: boolean;
  /** The inspectors stand before it and see the header instead of what is behind it. */
  readonly proxyProtocolIsLast: boolean;
}

/** Whether the filter is there and looks at connections to the port. */
export function filterApplies(filters: ListenerFilters, kind: ListenerFilterKind, port: number): boolean {
  const leavesOut = filters.leavesOut.get(kind);
  return leavesOut !== undefined && !leavesOut(port);
}

/** What original_src shows endpoints of a connection from `remoteIp` to the port. */
export function originalSource(filters: ListenerFilters, port: number, remoteIp: string): OriginalSource | null {
  // A client of a Unix domain socket has no address.
  if (remoteIp === "" || !filterApplies(filters, "originalSrc", port)) return null;
  return { ip: remoteIp, mark: filters.sourceMark };
}

export function compileListenerFilters(messages: readonly ListenerFilter[], stats: StatsStore): ListenerFilters {
  const leavesOut = new Map<ListenerFilterKind, (port: number) => boolean>();
  let sourceMark = 0;
  let proxyProtocol: ProxyProtocolFilter | null = null;
  let proxyProtocolIsLast = false;
  for (const message of messages) {
    const any = message.configType.case === "typedConfig" ? resolveTypedStruct(message.configType.value) : undefined;
    const typeName = any === undefined ? "" : any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
    const definition = listenerFilters.find((filter) =>
      any === undefined ? filter.name === message.name : filter.schema.typeName === typeName,
    );
    if (definition === undefined) {
      throw new ConfigError(`Didn't find a registered implementation for '${message.name}' with type URL: '${typeName}'`);
    }
    const config = any === undefined ? create(definition.schema) : fromBinary(definition.schema, any.value);
    if (isMessage(config, OriginalSrcSchema)) sourceMark = config.mark;
    if (isMessage(config, ProxyProtocolSchema)) {
      proxyProtocol = new ProxyProtocolFilter(config, stats);
      proxyProtocolIsLast = leavesOut.has("tlsInspector") || leavesOut.has("httpInspector");
    }
    leavesOut.set(definition.kind, message.filterDisabled === undefined ? () => false : compilePredicate(message.filterDisabled));
  }
  const readsFirstBytes = proxyProtocol !== null || leavesOut.has("tlsInspector") || leavesOut.has("httpInspector");
  return { leavesOut, sourceMark, proxyProtocol, readsFirstBytes, proxyProtocolIsLast };
}

function compilePredicate({ rule }: ListenerFilterChainMatchPredicate): (port: number) => boolean {
  switch (rule.case) {
    case "orMatch": {
      const rules = rule.value.rules.map(compilePredicate);
      return (port) => rules.some((matches) => matches(port));
    }
    case "andMatch": {
      const rules = rule.value.rules.map(compilePredicate);
      return (port) => rules.every((matches) => matches(port));
    }
    case "notMatch": {
      const matches = compilePredicate(rule.value);
      return (port) => !matches(port);
    }
    case "anyMatch":
      return () => true;
    case "destinationPortRange": {
      const { start, end } = rule.value;
      return (port) => port >= start && port < end;
    }
    default:
      throw new ConfigError("ListenerFilterChainMatchPredicate: rule: value is required");
  }
}
