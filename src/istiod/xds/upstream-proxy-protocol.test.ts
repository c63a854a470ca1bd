import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { clustersOf, pushContextOf, sidecarNode } from "../../../test/support/mesh.ts";
import type { TransportSocket } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../api/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";

const service = "{hosts: [a.test], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}";
const mesh = (policy: string) => `
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a, namespace: default}, spec: ${service}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec: {host: a.test, trafficPolicy: ${policy}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {proxyProtocol: {version: V2}}}]}
`;

/** Versions, and what is inside. */
function shown(socket: TransportSocket | undefined): string {
  const config =
    socket?.configType.case === "typedConfig" ? anyUnpack(socket.configType.value, ProxyProtocolUpstreamTransportSchema) : undefined;
  if (config === undefined) return socket?.name ?? "none";
  return `${socket!.name} v${config.config!.version + 1} around ${config.transportSocket!.name}`;
}

describe("trafficPolicy.proxyProtocol", () => {
  const wrapped = "envoy.transport_sockets.upstream_proxy_protocol";

  it.each([
    ["{tls: {mode: DISABLE}, proxyProtocol: {}}", [`${wrapped} v1 around envoy.transport_sockets.raw_buffer`], 2],
    ["{tls: {mode: DISABLE}, proxyProtocol: {version: V2}}", [`${wrapped} v2 around envoy.transport_sockets.raw_buffer`], 2],
    ["{tls: {mode: SIMPLE}, proxyProtocol: {version: V1}}", [`${wrapped} v1 around envoy.transport_sockets.tls`], 2],
    [
      "{proxyProtocol: {version: V1}}",
      [`${wrapped} v1 around envoy.transport_sockets.tls`, `${wrapped} v1 around envoy.transport_sockets.raw_buffer`],
      2,
    ],
    ["{tls: {mode: DISABLE}}", ["none"], 2],
  ])("of %s stands around every transport, and a subset's own goes before", (policy, sockets, ofSubset) => {
    const clusters = clustersOf(sidecarNode(), pushContextOf(mesh(policy)));
    const of = (name: string) => {
      const cluster = clusters.get(name)!;
      return cluster.transportSocketMatches.length > 0
        ? cluster.transportSocketMatches.map((match) => shown(match.transportSocket))
        : [shown(cluster.transportSocket)];
    };
    expect(of("outbound|80||a.test")).toEqual(sockets);
    expect(of("outbound|80|v1|a.test").every((socket) => socket.startsWith(`${wrapped} v${ofSubset}`))).toBe(true);
  });
});
