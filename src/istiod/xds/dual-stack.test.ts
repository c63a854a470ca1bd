/** Where the proxies of a machine with addresses of both families listen, and of which it calls its application. */
import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import type { Listener } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";

const mesh = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIPs: [10.96.0.1, "fd96::1"], clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIPs: [10.96.0.2, "fd96::2"], clusterIP: 10.96.0.2, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, namespace: default}
spec: {address: 10.9.1.1, labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8000, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 8001, name: http-v4, protocol: HTTP}, hosts: ["*"], bind: 10.9.0.1}
`;
const sidecar = `
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: default}
spec:
  ingress:
  - {port: {number: 9090, name: http, protocol: HTTP}, defaultEndpoint: "127.0.0.1:8080", captureMode: NONE, bind: 0.0.0.0}
  egress:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["./*"], captureMode: NONE}
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ["./*"], captureMode: NONE, bind: 127.0.0.1}
`;

const both = { INSTANCE_IPS: "10.9.1.1,fd09::1", DUAL_STACK: "true" };
const text = (address: Address | undefined) => (address?.address.case === "socketAddress" ? address.address.value.address : "");
const addressesOf = ({ address, additionalAddresses }: Listener) => [
  text(address),
  ...additionalAddresses.map((other) => text(other.address)),
];
const listen = (proxy: ProxyNode, yaml = mesh) =>
  Object.fromEntries([...listenersOf(proxy, pushContextOf(yaml))].map(([name, listener]) => [name, addressesOf(listener)]));

describe("a sidecar with addresses of both families", () => {
  it("listens to both where nobody said otherwise, and has a listener for each address of a service", () => {
    expect(listen(sidecarNode({ metadata: both }))).toEqual({
      "0.0.0.0_80": ["0.0.0.0", "::"],
      "10.96.0.2_5432": ["10.96.0.2"],
      "fd96::2_5432": ["fd96::2"],
      virtualOutbound: ["0.0.0.0", "::"],
      virtualInbound: ["0.0.0.0", "::"],
    });
  });

  it.each([
    ["its agent does not say that it does", { INSTANCE_IPS: both.INSTANCE_IPS }],
    ["it has addresses of IPv4 alone", { DUAL_STACK: "true" }],
  ])("listens to IPv4 where %s", (_, metadata) => {
    const addresses = listen(sidecarNode({ metadata }));
    expect(addresses.virtualInbound).toEqual(["0.0.0.0"]);
    expect(addresses["0.0.0.0_80"]).toEqual(["0.0.0.0"]);
  });

  it("listens to both by Istio's word for it, in its agent's ProxyConfig", () => {
    const metadata = { INSTANCE_IPS: both.INSTANCE_IPS, PROXY_CONFIG: { proxyMetadata: { ISTIO_DUAL_STACK: "true" } } };
    expect(listen(sidecarNode({ metadata })).virtualOutbound).toEqual(["0.0.0.0", "::"]);
  });

  it("listens where a Sidecar says, and there alone", () => {
    const addresses = listen(sidecarNode({ labels: { app: "web" }, metadata: both }), mesh + sidecar);
    expect(addresses).toMatchObject({
      "0.0.0.0_9090": ["0.0.0.0"],
      "127.0.0.1_80": ["127.0.0.1", "::1"],
      "127.0.0.1_5432": ["127.0.0.1"],
    });
  });

  it.each([
    ["both", both, ["127.0.0.6", "::6"]],
    ["IPv4", {}, ["127.0.0.6"]],
    ["IPv6", { INSTANCE_IPS: "fd09::1" }, ["::6", "127.0.0.6"]],
  ])("calls its application from an address that is not captured, of %s", (_, metadata, expected) => {
    const clusters = clustersOf(sidecarNode({ metadata }), pushContextOf(mesh));
    const { sourceAddress, extraSourceAddresses } = clusters.get("InboundPassthroughCluster")!.upstreamBindConfig!;
    expect([sourceAddress?.address, ...extraSourceAddresses.map(({ address }) => address?.address)]).toEqual(expected);
  });
});

describe("a sidecar with addresses of IPv6 alone", () => {
  it("takes what is captured of IPv4 within its machine as well", () => {
    const addresses = listen(sidecarNode({ metadata: { INSTANCE_IPS: "fd09::1" } }));
    expect(addresses).toMatchObject({ "::_80": ["::"], virtualOutbound: ["::", "0.0.0.0"], virtualInbound: ["::", "0.0.0.0"] });
  });
});

describe("a gateway with addresses of both families", () => {
  it("listens to both, but where a server is bound to one", () => {
    const addresses = listen(routerNode({ metadata: { ...both, INSTANCE_IPS: "10.9.0.1,fd09::2" } }));
    expect(addresses).toEqual({ "0.0.0.0_8000": ["0.0.0.0", "::"], "10.9.0.1_8001": ["10.9.0.1"] });
  });
});
