import { describe, expect, it } from "vitest";
import { clustersOf, listenersOf, pushContextOf, routerNode, routesOf, sidecarNode } from "../../../test/support/mesh.ts";
import { HeldResources } from "../../ads/held-resources.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { generatorFor } from "../xds/generators.ts";
import type { PushContext } from "./push-context.ts";

const entry = (name: string, rest: string, host = `${name}.test`) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: default}
spec: {hosts: [${host}], ports: [{number: 80, name: http, protocol: HTTP}], ${rest}}
---`;
const object = (kind: string, spec: string) => `
apiVersion: networking.istio.io/v1
kind: ${kind}
metadata: {name: rule, namespace: default}
spec: ${spec}
---`;
const mesh = entry("a", "resolution: DNS");

/** The table of port 80 as it is handed to the proxy. */
function table(push: PushContext, node: ReturnType<typeof sidecarNode>) {
  const state = { nonceSent: "", nonceAcked: "", versionSent: "", lastError: undefined, alwaysRespond: false };
  const watch = { typeUrl: typeUrls.rds, isWildcard: false, names: new Set(["80"]), held: HeldResources.none, ...state };
  return generatorFor(node, typeUrls.rds)!({ proxy: node, push, onProblem: () => {} }, watch, undefined)[0];
}

describe("resources that proxies share", () => {
  it("are made once for all that are alike, whatever their labels", () => {
    const push = pushContextOf(mesh);
    const first = table(push, sidecarNode({ ip: "10.0.0.1", labels: { app: "a" } }));
    expect(table(push, sidecarNode({ ip: "10.0.0.2", labels: { app: "b" } }))).toBe(first);
    expect(table(push, sidecarNode({ namespace: "other" }))).not.toBe(first);
  });

  it("are a proxy's own where a rule asks for a label", () => {
    const rule = "{hosts: [a.test], http: [{match: [{sourceLabels: {tier: gold}}], route: [{destination: {host: a.test}}]}]}";
    const push = pushContextOf(mesh + object("VirtualService", rule));
    const plain = table(push, sidecarNode({ labels: { app: "a" } }));
    expect(table(push, sidecarNode({ labels: { app: "b" } }))).toBe(plain);
    expect(table(push, sidecarNode({ labels: { app: "a", tier: "gold" } }))).not.toBe(plain);
  });

  it("follow a DestinationRule for chosen workloads", () => {
    const rule =
      "{host: a.test, workloadSelector: {matchLabels: {tier: gold}}, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 2s}}}}";
    const push = pushContextOf(mesh + object("DestinationRule", rule));
    const timeout = (labels: Record<string, string>) =>
      clustersOf(sidecarNode({ labels }), push).get("outbound|80||a.test")?.connectTimeout;
    expect([timeout({}), timeout({ tier: "gold" }), timeout({})].map((value) => value?.seconds)).toEqual([10n, 2n, 10n]);
  });

  it("follow what a proxy is: address family, interception, domain", () => {
    const push = pushContextOf(mesh + entry("short", "resolution: STATIC", "short.default.svc.cluster.local"));
    const nodes = [sidecarNode(), sidecarNode({ ip: "fd00::1" }), sidecarNode({ metadata: { INTERCEPTION_MODE: "NONE" } })];
    expect(nodes.map((node) => [...listenersOf(node, push).keys()][0])).toEqual(["0.0.0.0_80", "::_80", "127.0.0.1_80"]);
    const families = nodes.slice(0, 2).map((node) => clustersOf(node, push).get("outbound|80||a.test")?.dnsLookupFamily);
    expect(families[0]).not.toBe(families[1]);
    const domains = (namespace: string) =>
      routesOf("80", sidecarNode({ namespace }), push).virtualHosts.find(({ name }) => name.startsWith("short"))?.domains;
    expect(domains("default")).toContain("short");
    expect(domains("other")).not.toContain("short");
  });

  it("follow where a proxy has its certificates from", () => {
    const rule = "{host: a.test, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca}}}";
    const push = pushContextOf(mesh + object("DestinationRule", rule));
    const socket = (metadata: Record<string, string>) => {
      const config = clustersOf(sidecarNode({ metadata }), push).get("outbound|80||a.test")?.transportSocket?.configType;
      return Buffer.from(config?.case === "typedConfig" ? config.value.value : []).toString("latin1");
    };
    expect(socket({})).not.toContain("file-cert:");
    expect(socket({ "file-credential": "true" })).toContain("file-cert:/c~/k");
    expect(socket({})).not.toContain("file-cert:");
  });

  it("are not all that a gateway gets that passes mutual TLS on", () => {
    const gateway =
      "{selector: {istio: east}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}]}";
    const push = pushContextOf(entry("a", "location: MESH_INTERNAL, resolution: STATIC") + object("Gateway", gateway));
    const names = (istio: string) => [...clustersOf(routerNode({ labels: { istio } }), push).keys()];
    const ordinary = ["outbound|80||a.test", "BlackHoleCluster"];
    expect([names("west"), names("east"), names("west")]).toEqual([ordinary, [...ordinary, "outbound_.80_._.a.test"], ordinary]);
  });
});
