/** On which chains of which proxies policies are enforced. */

import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpConnectionManagerSchema } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";

const policy = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: istio-system}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [evil]}}]}]}
---
`;
const mesh = `${policy}
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: any, port: 82}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
status: {podIP: 10.9.1.1}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 8443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: c}}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
  - {port: {number: 9443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
  - {port: {number: 15443, name: auto, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: default}
spec:
  hosts: ["*"]
  gateways: [gw]
  http: [{route: [{destination: {host: web}}]}]
  tcp: [{route: [{destination: {host: web, port: {number: 81}}}]}]
  tls: [{match: [{sniHosts: [a.test]}], route: [{destination: {host: web, port: {number: 81}}}]}]
`;

/** `http: rbac grpc_stats fault cors router` or `tcp: rbac tcp_proxy` of a chain. */
function describeChain({ filters }: FilterChain): string {
  const names = filters.flatMap(({ name, configType }) => {
    const manager = configType.case === "typedConfig" ? anyUnpack(configType.value, HttpConnectionManagerSchema) : undefined;
    return manager ? ["http:", ...manager.httpFilters.map((filter) => filter.name)] : [name];
  });
  return names.map((name) => name.replace(/^envoy\.filters\.\w+\./, "")).join(" ");
}

const chainsOf = (listeners: Iterable<Listener>) =>
  [...listeners].flatMap(({ filterChains, defaultFilterChain }) => [...filterChains, ...(defaultFilterChain ? [defaultFilterChain] : [])]);

describe("policies are enforced", () => {
  it("on all chains of a gateway", () => {
    const chains = chainsOf(listenersOf(routerNode(), pushContextOf(mesh)).values());
    expect(chains.length).toBeGreaterThanOrEqual(7);
    expect(new Set(chains.map(describeChain))).toEqual(new Set(["http: rbac grpc_stats fault cors router", "rbac tcp_proxy"]));
  });

  it("on all inbound chains of a sidecar, except the one that leads nowhere", () => {
    const { filterChains } = listenersOf(sidecarNode(), pushContextOf(mesh)).get("virtualInbound")!;
    const [blackHole, ...others] = filterChains;
    expect(describeChain(blackHole!)).toBe("tcp_proxy");
    expect(others.length).toBeGreaterThanOrEqual(10);
    expect(new Set(others.map(describeChain))).toEqual(new Set(["http: rbac grpc_stats fault cors router", "rbac tcp_proxy"]));
  });

  it("on no outbound chain of a sidecar", () => {
    const listeners = [...listenersOf(sidecarNode(), pushContextOf(mesh)).values()].filter(({ name }) => name !== "virtualInbound");
    expect(listeners.length).toBeGreaterThanOrEqual(3);
    expect(
      chainsOf(listeners)
        .map(describeChain)
        .filter((chain) => chain.includes("rbac")),
    ).toEqual([]);
  });
});
