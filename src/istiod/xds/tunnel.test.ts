import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { listenersOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import type { FilterChain } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { TcpProxySchema } from "../../api/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";

const object = (kind: string, name: string, spec: string) =>
  `{apiVersion: networking.istio.io/v1, kind: ${kind}, metadata: {name: ${name}, namespace: default}, spec: ${spec}}\n---\n`;
const entry = (host: string, port: number, protocol: string) =>
  object(
    "ServiceEntry",
    host.replace(".", "-"),
    `{hosts: [${host}], resolution: DNS, ports: [{number: ${port}, name: p, protocol: ${protocol}}]}`,
  );
const services = entry("proxy.test", 3128, "TCP") + entry("out.test", 443, "TLS");
const tunnel = (protocol: string, host: string) =>
  `tunnel: {${protocol && `protocol: ${protocol}, `}targetHost: '${host}', targetPort: 443}`;
const rule = object(
  "DestinationRule",
  "proxy",
  `{host: proxy.test, trafficPolicy: {${tunnel("", "out.test")}}, subsets: [{name: post, trafficPolicy: {${tunnel("POST", "2001:db8::1")}}}, {name: none}]}`,
);
const destination = (subset = "") =>
  `{destination: {host: proxy.test, port: {number: 3128}${subset && `, subset: ${subset}`}}, weight: 50}`;

function tunnelsOf(chains: readonly FilterChain[] | undefined): (string | undefined)[] {
  return (chains ?? []).map(({ filters }) => {
    const { configType } = filters.at(-1)!;
    const config = configType.case === "typedConfig" ? anyUnpack(configType.value, TcpProxySchema) : undefined;
    const found = config?.tunnelingConfig;
    return found && `${found.usePost ? "POST" : "CONNECT"} ${found.hostname}`;
  });
}

describe("trafficPolicy.tunnel", () => {
  it.each([
    ["", destination(), "CONNECT out.test:443"],
    ["a subset's own", destination("post"), "POST [2001:db8::1]:443"],
    ["a subset without", destination("none"), undefined],
    ["several destinations", `${destination("post")}, ${destination("none")}`, "CONNECT out.test:443"],
  ])("is on sidecars' and gateways' listeners: %s", (_, route, expected) => {
    const match = "match: [{port: 443, sniHosts: [out.test]}]";
    const sidecars = object("VirtualService", "v", `{hosts: [out.test], gateways: [mesh, gw], tls: [{${match}, route: [${route}]}]}`);
    const gateway = object(
      "Gateway",
      "gw",
      "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [out.test], tls: {mode: PASSTHROUGH}}]}",
    );
    const push = pushContextOf(services + rule + sidecars + gateway);
    expect(tunnelsOf(listenersOf(sidecarNode(), push).get("0.0.0.0_443")?.filterChains)).toEqual([expected]);
    expect(tunnelsOf(listenersOf(routerNode(), push).get("0.0.0.0_443")?.filterChains)).toEqual([expected]);
  });

  it("is on the listener of the service itself, and of no other", () => {
    const listeners = listenersOf(sidecarNode(), pushContextOf(services + rule));
    expect(tunnelsOf(listeners.get("0.0.0.0_3128")?.filterChains)).toEqual(["CONNECT out.test:443"]);
    expect(tunnelsOf(listeners.get("0.0.0.0_443")?.filterChains)).toEqual([undefined]);
  });
});
