import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { describe, expect, it, vi } from "vitest";
import { makeCertificate } from "../../test/support/certificate.ts";
import { objectsOf, pushContextOf, routerNode, sidecarNode } from "../../test/support/mesh.ts";
import { HeldResources } from "../ads/held-resources.ts";
import { Subscriptions } from "../ads/subscription.ts";
import { NodeSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { keyOf } from "../api/kinds/object.ts";
import { defaultMesh } from "../api/mesh/decode-mesh.ts";
import { typeUrls } from "../api/type-urls.ts";
import { MemoryStore } from "../config/memory.ts";
import { debugPages } from "./debug/handlers.ts";
import { DiscoveryServer } from "./discovery-server.ts";
import { PushContext } from "./push/push-context.ts";
import { planPush, scopeFor } from "./push/push-request.ts";

const { certificate: root } = makeCertificate("ca.test");
const node = create(NodeSchema, { id: "router~10.0.0.1~gw.default~default.svc.cluster.local" });
const connection = { kind: "delta" as const, subscriptions: new Subscriptions(), push() {}, close() {} };
const peer = { address: "127.0.0.1:1", identities: undefined };

describe("DiscoveryServer", () => {
  it("refuses streams with UNAVAILABLE until everything has been read", async () => {
    await using store = new MemoryStore();
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    expect(() => server.onConnect(node, connection, peer)).toThrow(expect.objectContaining({ code: status.UNAVAILABLE }));
    server.markReady();
    server.onConnect(node, connection, peer);
    expect(server.connected).toHaveLength(1);
  });

  it("takes no more proxies than it is told", async () => {
    await using store = new MemoryStore();
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local", maxConnections: 1 });
    server.markReady();
    const session = server.onConnect(node, connection, peer);
    expect(() => server.onConnect(node, connection, peer)).toThrow(expect.objectContaining({ code: status.RESOURCE_EXHAUSTED }));
    session.onClosed();
    server.onConnect(node, connection, peer);
  });

  it("lets answers wait for those who are just connecting", async () => {
    await using store = new MemoryStore();
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    const now = vi.spyOn(performance, "now").mockReturnValue(0);
    server.newcomers.onTaken("10.0.0.9:1");
    let isAnswered = false;
    server.turns.add(() => {
      isAnswered = true;
    });
    await delay(20);
    expect(isAnswered).toBe(false);
    server.newcomers.onHeard("10.0.0.9:1");
    await vi.waitFor(() => expect(isAnswered).toBe(true));
    now.mockRestore();
  });

  it("counts a NACK by proxy until the proxy takes the type again", async () => {
    await using store = new MemoryStore();
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    server.markReady();
    const session = server.onConnect(node, connection, peer);
    const typeUrl = "type.googleapis.com/envoy.config.listener.v3.Listener";
    session.onNack(typeUrl, "bad");
    expect(await server.metrics.registry.metrics()).toMatch(/^pilot_xds_lds_reject\{node="gw\.default",err="rejected"\} 1$/m);
    session.onAck(typeUrl);
    expect(await server.metrics.registry.metrics()).not.toMatch(/^pilot_xds_lds_reject\{/m);
    expect(await server.metrics.registry.metrics()).toMatch(/^pilot_total_xds_rejects\{type="lds"\} 1$/m);
  });
});

describe("what became of EnvoyFilters", () => {
  const yaml = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: door, namespace: default }
spec: { servers: [{ port: { number: 8080, name: http, protocol: HTTP }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: f, namespace: default }
spec:
  configPatches:
    - { applyTo: LISTENER, match: { context: GATEWAY }, patch: { operation: MERGE, value: { stat_prefix: x } } }
    - { applyTo: LISTENER, match: { context: SIDECAR_INBOUND }, patch: { operation: MERGE, value: { stat_prefix: y } } }
    - { applyTo: CLUSTER, match: { cluster: { service: nobody } }, patch: { operation: REMOVE } }
    - { applyTo: BOOTSTRAP, patch: { operation: MERGE, value: {} } }
`;

  it("is counted, and shown with what of them is not acted on", async () => {
    await using store = new MemoryStore();
    const objects = objectsOf(yaml);
    for (const kind of ["Gateway", "EnvoyFilter"] as const) for (const object of objects(kind)) await store.put(object);
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    server.markReady();
    const session = server.onConnect(node, connection, peer);
    const state = { nonceSent: "", nonceAcked: "", versionSent: "", lastError: undefined, alwaysRespond: false };
    for (const typeUrl of [typeUrls.lds, typeUrls.cds]) {
      session.generate({ typeUrl, isWildcard: true, names: new Set(), held: HeldResources.none, ...state }, undefined);
    }
    server.collectMetrics();
    const metrics = await server.metrics.registry.metrics();
    expect(metrics.split("\n").filter((line) => line.startsWith("pilot_envoy_filter_status{"))).toEqual([
      'pilot_envoy_filter_status{name="default/f",patch="listener",result="applied"} 1',
      'pilot_envoy_filter_status{name="default/f",patch="cluster",result="applied"} 0',
      'pilot_envoy_filter_status{name="default/f",patch="bootstrap",result="applied"} 0',
    ]);
    expect(debugPages.push_status!.handle(server, new URLSearchParams())).toMatchObject({
      envoyFilters: [{ name: "default/f", patches: [{ applied: true }, { applied: false }, { applied: false }, { applied: false }] }],
      untranslated: [expect.stringContaining("EnvoyFilter/default/f: configPatches[3]: proxies take their bootstrap")],
    });
  });
});

describe("callers of the secure port", () => {
  const caller = (namespace: string, serviceAccount: string) => ({
    address: "10.0.0.9:1",
    identities: [{ trustDomain: "cluster.local", namespace, serviceAccount }],
  });
  const ofAccount = create(NodeSchema, { ...node, metadata: { NAMESPACE: "default", SERVICE_ACCOUNT: "gw" } });

  it.each([
    ["of another namespace", node, caller("istio-system", "gw")],
    ["of another account", ofAccount, caller("default", "other")],
    ["without any identity", node, { address: "10.0.0.9:1", identities: [] }],
  ])("are refused as a node %s", async (_, claimed, who) => {
    await using store = new MemoryStore();
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    server.markReady();
    expect(() => server.onConnect(claimed, connection, who)).toThrow(expect.objectContaining({ code: status.PERMISSION_DENIED }));
    expect(server.connected).toEqual([]);
    server.onConnect(claimed, connection, caller("default", "gw"));
    // Also who did not say has the account that it proved.
    expect(server.connected[0]!.proxy.serviceAccount).toBe("gw");
  });

  it.each([
    ["over plaintext from another machine", "10.0.0.9:1", undefined, 0],
    ["over plaintext from this machine", "127.0.0.1:1", undefined, 1],
    ["over plaintext from this machine by IPv6", "[::1]:1", undefined, 1],
    ["with an identity", "10.0.0.9:1", caller("default", "gw").identities, 1],
  ])("and others get secrets %s: %s", async (_, address, identities, count) => {
    await using store = new MemoryStore();
    await store.put(
      objectsOf(
        '{apiVersion: v1, kind: Secret, metadata: {name: ca, namespace: default}, stringData: {cacert: "' +
          root.replaceAll("\n", "\\n") +
          '"}}',
      )("Secret")[0]!,
    );
    using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
    server.markReady();
    const session = server.onConnect(node, connection, { address, identities });
    const subscriptions = new Subscriptions();
    subscriptions.decideSotw({
      typeUrl: typeUrls.sds,
      resourceNames: ["kubernetes://ca-cacert"],
      responseNonce: "",
      errorMessage: undefined,
    });
    expect(session.generate(subscriptions.watches.get(typeUrls.sds)!, undefined)).toHaveLength(count);
  });
});

describe("configuration that is not translated", () => {
  it("is logged once an object and listed as long as the object is there", async () => {
    await using store = new MemoryStore();
    const policy = objectsOf(
      "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: plugin, namespace: default}, spec: {url: 'oci://a.test/b:1'}}",
    )("WasmPlugin")[0]!;
    await store.put(policy);
    const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    try {
      using server = new DiscoveryServer({ store, mesh: defaultMesh(), domain: "cluster.local" });
      server.markReady();
      expect(debugPages.push_status!.handle(server, new URLSearchParams())).toMatchObject({
        untranslated: [expect.stringMatching(/^WasmPlugin\/default\/plugin: no plugin is run/)],
      });
      expect(written.mock.calls.filter(([line]) => String(line).includes("no plugin is run"))).toHaveLength(1);
      await store.delete(keyOf(policy));
      server.markReady();
      expect(server.untranslated).toEqual([]);
    } finally {
      written.mockRestore();
    }
  });
});

describe("scopeFor", () => {
  it("of a DestinationRule holds listeners: tunnels and hashes of connections stand there", () => {
    const rule = `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d, namespace: default}, spec: {host: a}}`;
    const [without, withRule] = [pushContextOf(""), pushContextOf(rule)];
    for (const [from, to] of [
      [without, withRule],
      [withRule, without],
    ] as const) {
      const request = planPush(new Set(["DestinationRule"] as const), from, to)!;
      expect(scopeFor(request, sidecarNode(), from, to)!.typeUrls!.has(typeUrls.lds)).toBe(true);
    }
  });

  const before = pushContextOf("");

  it("leaves sidecars out of a Gateway's change, and gateways out of a Sidecar's", () => {
    const gateway = planPush(new Set(["Gateway"] as const), before, before)!;
    expect(scopeFor(gateway, sidecarNode(), before, before)).toBeUndefined();
    expect(scopeFor(gateway, routerNode(), before, before)).toBeDefined();
    const ingress = planPush(new Set(["Ingress", "IngressClass"] as const), before, before)!;
    expect(scopeFor(ingress, sidecarNode(), before, before)).toBeUndefined();
    expect([...scopeFor(ingress, routerNode(), before, before)!.typeUrls!]).toEqual([typeUrls.lds, typeUrls.rds]);
    const sidecar = planPush(new Set(["Sidecar"] as const), before, before)!;
    expect(scopeFor(sidecar, routerNode(), before, before)).toBeUndefined();
    expect(scopeFor(sidecar, sidecarNode(), before, before)).toBeDefined();
  });

  it("gives everything to a proxy whose own services changed", () => {
    const mesh = (address: string) =>
      pushContextOf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: default}
spec: {hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: ${address}}]}`);
    const older = mesh("10.0.0.1");
    const newer = mesh("10.9.1.1");
    const request = planPush(new Set(["ServiceEntry"] as const), older, newer)!;
    expect(request.reason).toBe("endpoint");
    expect(scopeFor(request, sidecarNode(), older, newer)).toEqual({});
    expect(scopeFor(request, routerNode(), older, newer)).toEqual({
      typeUrls: request.typeUrls,
      clusters: new Set(["outbound|80||a.test", "outbound_.80_._.a.test"]),
    });
  });

  it("plans nothing for kinds that no proxy sees", () => {
    expect(planPush(new Set(["Deployment", "Namespace"] as const), before, before)).toBeUndefined();
  });

  describe("of mutual TLS", () => {
    const mesh = (more: string) =>
      pushContextOf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec: {hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
---
${more}`);
    const policy = (namespace: string, spec: string) =>
      `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: ${namespace}}, spec: ${spec}}`;
    const change = (kind: "PeerAuthentication" | "Secret", older: string, newer: string) => {
      const [from, to] = [mesh(older), mesh(newer)];
      const request = planPush(new Set([kind] as const), from, to, ["shop", "other"]);
      const scope = (proxy: ReturnType<typeof sidecarNode>) => {
        const types = request && scopeFor(request, proxy, from, to)?.typeUrls;
        return types && [...types].map((typeUrl) => typeUrl.replace(/^.*\./, ""));
      };
      return {
        request,
        own: scope(sidecarNode({ namespace: "shop" })),
        other: scope(sidecarNode({ namespace: "other" })),
        router: scope(routerNode()),
      };
    };

    it("gives a stricter namespace new listeners, and nobody else anything", () => {
      const { own, other, router } = change("PeerAuthentication", "", policy("shop", "{mtls: {mode: STRICT}}"));
      expect([own, other, router]).toEqual([["Listener"], undefined, undefined]);
    });

    it("gives all sidecars listeners when the mesh's policy changes", () => {
      const { own, other, router } = change("PeerAuthentication", "", policy("istio-system", "{mtls: {mode: STRICT}}"));
      expect([own, other, router]).toEqual([["Listener"], ["Listener"], undefined]);
    });

    it("tells clients where mutual TLS is switched off, of the services concerned alone", () => {
      const { request, own, other, router } = change("PeerAuthentication", "", policy("shop", "{mtls: {mode: DISABLE}}"));
      expect([own, other, router]).toEqual([
        ["Cluster", "ClusterLoadAssignment", "Listener"],
        ["Cluster", "ClusterLoadAssignment"],
        ["Cluster", "ClusterLoadAssignment"],
      ]);
      expect(request?.clusters).toContain("outbound|80||a.test");
    });

    it("plans nothing for a policy that another one hides", () => {
      const strict = policy("shop", "{mtls: {mode: STRICT}}");
      expect(
        change("PeerAuthentication", strict, `${strict}\n---\n${policy("shop", "{mtls: {mode: DISABLE}}").replace("name: p", "name: q")}`)
          .request,
      ).toBeUndefined();
    });

    it("gives a gateway clusters when it begins to pass mutual TLS on, and only that one", () => {
      const gateway = (mode: string) =>
        `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: default}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: ${mode}}}]}}`;
      const [from, to] = [mesh(gateway("PASSTHROUGH")), mesh(gateway("AUTO_PASSTHROUGH"))];
      const request = planPush(new Set(["Gateway"] as const), from, to)!;
      const types = (proxy: ReturnType<typeof routerNode>) => scopeFor(request, proxy, from, to)?.typeUrls;
      expect(types(routerNode())).toContain(typeUrls.cds);
      expect(types(routerNode({ labels: {} }))).not.toContain(typeUrls.cds);
    });

    it("gives a changed secret to the proxies of its namespace alone", () => {
      const secret = (value: string) =>
        `{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: shop}, stringData: {cert: ${value}}}`;
      const { own, other, router } = change("Secret", secret("a"), secret("b"));
      expect([own, other, router]).toEqual([["Secret"], undefined, undefined]);
    });
  });

  describe("of security policies", () => {
    const policy = (kind: string, namespace: string, spec: string) =>
      `{apiVersion: security.istio.io/v1, kind: ${kind}, metadata: {name: p, namespace: ${namespace}}, spec: ${spec}}\n---\n`;
    const allow = (namespace: string, path: string, labels = "") =>
      policy("AuthorizationPolicy", namespace, `{${labels}rules: [{to: [{operation: {paths: [${path}]}}]}]}`);
    const web = sidecarNode({ namespace: "shop", labels: { app: "web" } });
    const proxies = { web, api: sidecarNode({ namespace: "shop", labels: { app: "api" } }), router: routerNode() };
    const scopes = (kind: "AuthorizationPolicy" | "RequestAuthentication" | "Jwks", from: PushContext, to: PushContext) => {
      const request = planPush(new Set([kind] as const), from, to)!;
      return Object.entries(proxies).flatMap(([name, proxy]) => {
        const types = scopeFor(request, proxy, from, to)?.typeUrls;
        return types ? [`${name}: ${[...types].map((typeUrl) => typeUrl.replace(/^.*\./, "")).join()}`] : [];
      });
    };

    it.each([
      ["of the mesh", allow("istio-system", "/a"), allow("istio-system", "/b"), ["web: Listener", "api: Listener", "router: Listener"]],
      ["of a namespace", allow("shop", "/a"), allow("shop", "/b"), ["web: Listener", "api: Listener"]],
      ["of a workload", "", allow("shop", "/a", "selector: {matchLabels: {app: web}}, "), ["web: Listener"]],
      ["of another namespace", "", allow("elsewhere", "/a"), []],
      ["that says the same", allow("shop", "/a"), allow("shop", "/a"), []],
    ])("gives listeners to those whom a policy %s selects", (_, older, newer, expected) => {
      expect(scopes("AuthorizationPolicy", pushContextOf(older), pushContextOf(newer))).toEqual(expected);
    });

    it("gives them to those for whom tokens are checked otherwise", () => {
      const rules = (issuer: string) =>
        policy("RequestAuthentication", "shop", `{selector: {matchLabels: {app: api}}, jwtRules: [{issuer: ${issuer}}]}`);
      expect(scopes("RequestAuthentication", pushContextOf(rules("a")), pushContextOf(rules("b")))).toEqual(["api: Listener"]);
    });

    it("gives them to those whose issuer has new keys", () => {
      const yaml = policy(
        "RequestAuthentication",
        "shop",
        '{selector: {matchLabels: {app: web}}, jwtRules: [{issuer: a, jwksUri: "http://a/"}]}',
      );
      const context = (keys: string) =>
        new PushContext({
          version: "1",
          mesh: defaultMesh(),
          objects: objectsOf(yaml),
          domain: "cluster.local",
          jwks: { keys: () => keys, problem: () => undefined },
        });
      expect(scopes("Jwks", context("1"), context("2"))).toEqual(["web: Listener"]);
      expect(scopes("Jwks", context("1"), context("1"))).toEqual([]);
    });

    it("forgets no listener that something else changes in the same push", () => {
      const [from, to] = [pushContextOf(""), pushContextOf("")];
      const request = planPush(new Set(["AuthorizationPolicy", "VirtualService"] as const), from, to)!;
      expect([...scopeFor(request, web, from, to)!.typeUrls!]).toContain("type.googleapis.com/envoy.config.listener.v3.Listener");
    });
  });
});
