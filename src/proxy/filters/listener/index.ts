/** The listener filters that this proxy has: what they look for in the first bytes of a connection, or in its socket. */

import type { DescMessage } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import type { ListenerFilter } from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { HttpInspectorSchema } from "../../../api/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../../api/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { TlsInspectorSchema } from "../../../api/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";

export type ListenerFilterKind = "httpInspector" | "originalDst" | "tlsInspector";

interface ListenerFilterDefinition {
  readonly name: string;
  readonly schema: DescMessage;
  readonly kind: ListenerFilterKind;
}

/** Sorted by name. */
export const listenerFilters: readonly ListenerFilterDefinition[] = [
  { name: "envoy.filters.listener.http_inspector", schema: HttpInspectorSchema, kind: "httpInspector" },
  { name: "envoy.filters.listener.original_dst", schema: OriginalDstSchema, kind: "originalDst" },
  { name: "envoy.filters.listener.tls_inspector", schema: TlsInspectorSchema, kind: "tlsInspector" },
];

export function compileListenerFilters(messages: readonly ListenerFilter[]): ReadonlySet<ListenerFilterKind> {
  const kinds = new Set<ListenerFilterKind>();
  for (const message of messages) {
    const any = message.configType.case === "typedConfig" ? message.configType.value : undefined;
    const typeName = any === undefined ? "" : any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
    const definition = listenerFilters.find((filter) =>
      any === undefined ? filter.name === message.name : filter.schema.typeName === typeName,
    );
    if (definition === undefined) {
      throw new ConfigError(`Didn't find a registered implementation for '${message.name}' with type URL: '${typeName}'`);
    }
    if (any !== undefined) fromBinary(definition.schema, any.value);
    // A filter that is disabled for all destinations does nothing; one that is disabled for some (filter_disabled) is kept,
    // because looking at bytes that nobody matches on changes no outcome.
    if (message.filterDisabled?.rule.case !== "anyMatch" || !message.filterDisabled.rule.value) kinds.add(definition.kind);
  }
  return kinds;
}
