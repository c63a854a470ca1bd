/** Listener filters as Istio sets them up. Source: Istio pilot/pkg/xds/filters/filters.go. */
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { type ListenerFilter, ListenerFilterSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { HttpInspectorSchema } from "../../api/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../api/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { OriginalSrcSchema } from "../../api/gen/envoy/extensions/filters/listener/original_src/v3/original_src_pb.js";
import { ProxyProtocolSchema } from "../../api/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { TlsInspectorSchema } from "../../api/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { any } from "./messages.ts";

function filter<Desc extends DescMessage>(name: string, schema: Desc, init: MessageInitShape<Desc>): ListenerFilter {
  return create(ListenerFilterSchema, {
    name: `envoy.filters.listener.${name}`,
    configType: { case: "typedConfig", value: any(schema, init) },
  });
}

/** Reads the server's name and ALPN out of a ClientHello. */
export function tlsInspector(): ListenerFilter {
  return filter("tls_inspector", TlsInspectorSchema, { initialReadBufferSize: 512 });
}

/** Finds out whether the first bytes are HTTP. */
export function httpInspector(): ListenerFilter {
  return filter("http_inspector", HttpInspectorSchema, {});
}

/** Shows the workload the client's address instead of the proxy's; the mark brings what it answers back to the proxy. */
export function originalSrc(): ListenerFilter {
  return filter("original_src", OriginalSrcSchema, { mark: 1337 });
}

/** Finds out where a redirected connection was meant to go. */
export function originalDst(): ListenerFilter {
  return filter("original_dst", OriginalDstSchema, {});
}

/** Takes the header off that a load balancer puts before everything, and its addresses for the client's. */
export function proxyProtocol(): ListenerFilter {
  return filter("proxy_protocol", ProxyProtocolSchema, {});
}
