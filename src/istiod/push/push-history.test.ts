/**
 * A mesh that changes at random, seen twice: by proxies that are pushed what each change is said to alter, from contexts that follow each other;
 * and by a context that is made from nothing. After each step both must have the same, and so must who connects only then.
 */

import { describe, expect, it } from "vitest";
import { routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { HeldResources } from "../../ads/held-resources.ts";
import type { EncodedResource } from "../../ads/resource.ts";
import type { PushScope } from "../../ads/server.ts";
import type { Watch } from "../../ads/subscription.ts";
import { decodeObject } from "../../api/documents/decode-object.ts";
import { type ConfigObject, formatKey, keyOf } from "../../api/kinds/object.ts";
import { defaultMesh } from "../../api/mesh/decode-mesh.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import { compareAge, type ObjectsOf } from "../../registry/registry.ts";
import { generatorFor } from "../xds/generators.ts";
import { PushContext } from "./push-context.ts";
import { type ChangedKind, planPush, scopeFor } from "./push-request.ts";

const { cds, eds, lds, rds, nds } = typeUrls;
const namespaces = ["a", "b", "istio-system"];

/** Mulberry32: the same history for the same seed, so that a failure can be looked at. */
function randomOf(seed: number) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return { below, pick: <T>(list: readonly T[]): T => list[below(list.length)]!, chance: (part: number) => next() < part };
}

type Random = ReturnType<typeof randomOf>;

const hosts = ["one.test", "two.test", "three.test", "*.wild.test"];

/** Specs of each kind, out of few names and values, so that objects meet. */
const specs: Record<string, { readonly apiVersion: string; readonly names: number; spec(random: Random): object }> = {
  ServiceEntry: {
    apiVersion: "networking.istio.io/v1",
    names: 4,
    spec: ({ pick, below, chance }) => {
      const host = pick(hosts);
      const isWild = host.startsWith("*");
      const selects = !isWild && chance(0.3);
      return {
        hosts: [host],
        location: pick(["MESH_INTERNAL", "MESH_EXTERNAL"]),
        resolution: isWild ? "NONE" : selects ? "STATIC" : pick(["STATIC", "STATIC", "DNS"]),
        ports: [
          { number: pick([80, 8080]), name: "http", protocol: "HTTP" },
          ...(chance(0.3) ? [{ number: 9000, name: "tcp", protocol: "TCP" }] : []),
        ],
        ...(chance(0.3) ? { exportTo: ["."] } : {}),
        ...(chance(0.3) ? { addresses: [`10.50.0.${below(3) + 1}`] } : {}),
        ...(isWild
          ? {}
          : selects
            ? { workloadSelector: { labels: { app: pick(["x", "y"]) } } }
            : { endpoints: [{ address: `10.9.1.${below(4)}`, labels: { version: pick(["v1", "v2"]) } }] }),
      };
    },
  },
  WorkloadEntry: {
    apiVersion: "networking.istio.io/v1",
    names: 4,
    spec: ({ pick, below, chance }) => ({
      address: `10.9.1.${below(4)}`,
      labels: { app: pick(["x", "y"]), version: pick(["v1", "v2"]), ...(chance(0.3) ? { "security.istio.io/tlsMode": "istio" } : {}) },
      ...(chance(0.3) ? { serviceAccount: pick(["s", "t"]) } : {}),
    }),
  },
  Service: {
    apiVersion: "v1",
    names: 2,
    spec: ({ pick, chance }) => ({
      ...(chance(0.2) ? { clusterIP: "None" } : { clusterIP: `10.96.0.${pick([1, 2])}` }),
      selector: { app: pick(["x", "y"]) },
      ports: [
        { name: "http", port: pick([80, 8080]) },
        { name: "tcp", port: 9000 },
      ],
    }),
  },
  VirtualService: {
    apiVersion: "networking.istio.io/v1",
    names: 3,
    spec: ({ pick, chance }) => {
      const destination = () => ({
        host: pick(["one.test", "two.test", "three.test", "s0.a.svc.cluster.local"]),
        ...(chance(0.3) ? { subset: "v1" } : {}),
      });
      // Some are delegates, and some of the others have their routes from one.
      const isDelegate = chance(0.2);
      return {
        ...(isDelegate ? {} : { hosts: [pick(["one.test", "two.test", "s0.a.svc.cluster.local"])] }),
        ...(!isDelegate && chance(0.3) ? { gateways: ["a/door", "mesh"] } : {}),
        http: [
          ...(!isDelegate && chance(0.3)
            ? [{ match: [{ uri: { prefix: "/" } }], delegate: { name: pick(["n0", "n1", "n2"]), namespace: "a" } }]
            : []),
          ...(chance(0.5)
            ? [
                {
                  match: [{ uri: { prefix: "/a" }, ...(chance(0.3) ? { sourceLabels: { app: "x" } } : {}) }],
                  route: [{ destination: destination() }],
                },
              ]
            : []),
          { route: [{ destination: destination() }], timeout: `${pick([1, 2, 3])}s` },
        ],
        ...(chance(0.2) ? { exportTo: ["."] } : {}),
      };
    },
  },
  DestinationRule: {
    apiVersion: "networking.istio.io/v1",
    names: 3,
    spec: ({ pick, chance }) => ({
      host: pick(["one.test", "two.test", "*.test", "s0.a.svc.cluster.local"]),
      ...(chance(0.5) ? { subsets: [{ name: pick(["v1", "v2"]), labels: { version: "v1" } }] } : {}),
      trafficPolicy: pick([
        { loadBalancer: { simple: "RANDOM" } },
        { loadBalancer: { consistentHash: { httpHeaderName: "x-user" } } },
        { connectionPool: { tcp: { maxConnections: 7 } } },
        { tls: { mode: "DISABLE" } },
      ]),
      ...(chance(0.2) ? { workloadSelector: { matchLabels: { app: "x" } } } : {}),
      ...(chance(0.2) ? { exportTo: ["."] } : {}),
    }),
  },
  Sidecar: {
    apiVersion: "networking.istio.io/v1",
    names: 1,
    spec: ({ pick, chance }) => ({
      egress: [{ hosts: pick([["./*"], ["a/*", "istio-system/*"], ["*/one.test"]]) }],
      ...(chance(0.3) ? { outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } } : {}),
    }),
  },
  Gateway: {
    apiVersion: "networking.istio.io/v1",
    names: 1,
    spec: ({ pick }) => ({
      selector: { istio: "ingressgateway" },
      servers: [
        pick([
          { port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*"] },
          { port: { number: 15443, name: "tls", protocol: "TLS" }, tls: { mode: "AUTO_PASSTHROUGH" }, hosts: ["*.test"] },
        ]),
      ],
    }),
  },
  PeerAuthentication: {
    apiVersion: "security.istio.io/v1",
    names: 1,
    spec: ({ pick }) => ({ mtls: { mode: pick(["STRICT", "DISABLE", "PERMISSIVE"]) } }),
  },
  AuthorizationPolicy: {
    apiVersion: "security.istio.io/v1",
    names: 2,
    spec: ({ pick, chance }) => ({
      action: pick(["ALLOW", "DENY"]),
      rules: [{ to: [{ operation: { paths: [pick(["/a", "/b"])] } }] }],
      ...(chance(0.5) ? { selector: { matchLabels: { app: "x" } } } : {}),
    }),
  },
  RequestAuthentication: {
    apiVersion: "security.istio.io/v1",
    names: 2,
    spec: ({ pick }) => ({ jwtRules: [{ issuer: pick(["one", "two"]), jwksUri: "http://issuer.test/keys" }] }),
  },
  EnvoyFilter: {
    apiVersion: "networking.istio.io/v1alpha3",
    names: 2,
    spec: ({ pick }) => ({
      configPatches: [
        pick([
          { applyTo: "CLUSTER", match: { context: "SIDECAR_OUTBOUND" }, patch: { operation: "MERGE", value: { connect_timeout: "3s" } } },
          {
            applyTo: "VIRTUAL_HOST",
            match: { context: "SIDECAR_OUTBOUND" },
            patch: { operation: "MERGE", value: { request_body_buffer_limit: pick([1, 2]) } },
          },
        ]),
      ],
    }),
  },
};

interface World {
  readonly objects: Map<string, ConfigObject>;
  /** Of the issuers of tokens. */
  keys: string;
}

/** A thing that happens to the mesh: an object comes, says something else, or goes, or an issuer has other keys. */
function change(world: World, random: Random, now: number): ChangedKind {
  const { objects } = world;
  const kind = random.pick([...Object.keys(specs), "Jwks"]);
  if (kind === "Jwks") {
    world.keys = `{"keys":[],"round":${now}}`;
    return kind;
  }
  const { apiVersion, names, spec } = specs[kind]!;
  const namespace = kind === "Gateway" ? "a" : random.pick(namespaces);
  const name = kind === "Service" ? `s${random.below(names)}` : kind === "Gateway" ? "door" : `n${random.below(names)}`;
  const key = formatKey({ kind: kind as ConfigObject["kind"], namespace, name });
  if (objects.has(key) && random.chance(0.25)) {
    objects.delete(key);
    return kind as ChangedKind;
  }
  const { object, errors } = decodeObject({ apiVersion, kind, metadata: { name, namespace }, spec: spec(random) });
  if (!object) throw new Error(errors.map((error) => error.describe()).join("\n"));
  const creationTimestamp = objects.get(key)?.metadata.creationTimestamp ?? now;
  objects.set(formatKey(keyOf(object)), { ...object, metadata: { ...object.metadata, creationTimestamp } });
  return kind as ChangedKind;
}

const mesh = defaultMesh();

function contextOf({ objects, keys }: World, older?: PushContext): PushContext {
  const all = [...objects.values()].sort(compareAge);
  const jwks = { keys: () => keys, problem: () => undefined };
  const ofKind: ObjectsOf = (kind) => all.filter((object) => object.kind === kind);
  return new PushContext({ version: "test/1", mesh, objects: ofKind, domain: "cluster.local", jwks }, older);
}

function watchOf(typeUrl: string, names?: ReadonlySet<string>): Watch {
  const state = { nonceSent: "", nonceAcked: "", versionSent: "", lastError: undefined, alwaysRespond: false };
  return { typeUrl, isWildcard: !names, names: new Set(names), held: HeldResources.none, ...state };
}

function generate(
  proxy: ProxyNode,
  push: PushContext,
  typeUrl: TypeUrl,
  names: ReadonlySet<string> | undefined,
  only?: ReadonlySet<string>,
) {
  return generatorFor(proxy, typeUrl)!({ proxy, push, onProblem: () => {} }, watchOf(typeUrl, names), only);
}

const routeNames: ReadonlySet<string> = new Set(["80", "8080", "http.80"]);

type Held = Map<TypeUrl, Map<string, string>>;

const versionsOf = (resources: readonly EncodedResource[]) => new Map(resources.map(({ name, version }) => [name, version]));

/** All that a proxy that connects now is given. */
function everything(proxy: ProxyNode, push: PushContext): Held {
  const clusters = versionsOf(generate(proxy, push, cds, undefined));
  const services = new Set([...clusters.keys()].filter((name) => name.startsWith("outbound")));
  return new Map([
    [cds, clusters],
    [eds, versionsOf(generate(proxy, push, eds, services))],
    [lds, versionsOf(generate(proxy, push, lds, undefined))],
    [rds, versionsOf(generate(proxy, push, rds, routeNames))],
    [nds, versionsOf(generate(proxy, push, nds, undefined))],
  ]);
}

/** What the server of ads/ does with a push. */
function apply(held: Held, scope: PushScope | undefined, proxy: ProxyNode, push: PushContext): void {
  if (!scope) return;
  const isPushed = (typeUrl: TypeUrl) => !scope.typeUrls || scope.typeUrls.has(typeUrl);
  const clusters = held.get(cds)!;
  const asked = new Set<string>();
  if (isPushed(cds)) {
    const made = versionsOf(generate(proxy, push, cds, undefined, scope.clusters));
    for (const name of scope.clusters ?? [...clusters.keys()]) if (!made.has(name)) clusters.delete(name);
    for (const [name, version] of made) {
      // A proxy asks for the endpoints of a cluster that is new, and is sent them of one that changed.
      if (clusters.get(name) !== version) asked.add(name);
      clusters.set(name, version);
    }
  }
  const services = [...clusters.keys()].filter((name) => name.startsWith("outbound"));
  const endpoints = held.get(eds)!;
  for (const name of endpoints.keys()) if (!clusters.has(name)) endpoints.delete(name);
  const named = new Set(services.filter((name) => asked.has(name) || (isPushed(eds) && (!scope.clusters || scope.clusters.has(name)))));
  for (const [name, version] of versionsOf(generate(proxy, push, eds, new Set(services), named))) endpoints.set(name, version);
  if (isPushed(lds)) held.set(lds, versionsOf(generate(proxy, push, lds, undefined)));
  if (isPushed(rds)) held.set(rds, versionsOf(generate(proxy, push, rds, routeNames)));
  if (isPushed(nds)) held.set(nds, versionsOf(generate(proxy, push, nds, undefined)));
}

const proxies = () => [
  sidecarNode({ ip: "10.9.1.1", namespace: "a", labels: { app: "x" } }),
  sidecarNode({ ip: "10.9.1.2", namespace: "b", labels: { app: "y" }, hasIstioFilters: true }),
  sidecarNode({ ip: "10.9.1.9", namespace: "istio-system" }),
  routerNode({ ip: "10.9.1.3", namespace: "a" }),
];

const asObject = (held: Held) =>
  Object.fromEntries([...held].map(([typeUrl, versions]) => [typeUrl.split(".").at(-1), Object.fromEntries([...versions].sort())]));

describe("a context that follows another", () => {
  it("has what says the same as the same objects, and makes anew what does not", () => {
    const world: World = { objects: new Map(), keys: "{}" };
    const put = (kind: "ServiceEntry" | "VirtualService", name: string, spec: object) => {
      const { object } = decodeObject({ apiVersion: "networking.istio.io/v1", kind, metadata: { name, namespace: "a" }, spec });
      world.objects.set(formatKey(keyOf(object!)), { ...object!, metadata: { ...object!.metadata, creationTimestamp: 1 } });
    };
    const route = (host: string, timeout: string) => ({ hosts: [host], http: [{ route: [{ destination: { host } }], timeout }] });
    const entry = (host: string, address: string) => ({
      hosts: [host],
      resolution: "STATIC",
      ports: [{ number: 80, name: "http", protocol: "HTTP" }],
      endpoints: [{ address }],
    });
    for (const name of ["one", "two"]) {
      put("ServiceEntry", name, entry(`${name}.test`, "10.0.0.1"));
      put("VirtualService", name, route(`${name}.test`, "1s"));
    }
    const leaf = (timeout: string) => ({ http: [{ route: [{ destination: { host: "one.test" } }], timeout }] });
    put("VirtualService", "leaf", leaf("1s"));
    put("VirtualService", "whole", { hosts: ["whole.test"], http: [{ delegate: { name: "leaf" } }] });
    const before = contextOf(world);
    const endpointsOf = (push: PushContext) => push.registry.services.map((service) => push.registry.endpoints(service));
    const [oneBefore, twoBefore] = endpointsOf(before);
    put("ServiceEntry", "two", entry("two.test", "10.0.0.2"));
    put("VirtualService", "two", route("two.test", "2s"));
    put("VirtualService", "leaf", leaf("3s"));
    const after = contextOf(world, before);
    expect(after.registry.services).toBe(before.registry.services);
    const [one, two] = endpointsOf(after);
    expect(one).toBe(oneBefore);
    expect(two).not.toEqual(twoBefore);
    const named = (push: PushContext, name: string) => push.virtualServices.all.find((one) => one.name === name);
    expect(named(after, "one")).toBe(named(before, "one"));
    expect(named(after, "two")).not.toBe(named(before, "two"));
    // Its own object is what it was; the routes are its delegate's.
    expect(named(after, "whole")?.spec.http).toEqual([expect.objectContaining({ timeout: 3000 })]);
    expect(after.destinationRules).toBe(before.destinationRules);
  });
});

describe("a history of changes", () => {
  it.each(Array.from({ length: Number(process.env.SEEDS ?? 10) }, (_, index) => index + 1))(
    "leaves everybody with what a new context says, seed %i",
    (seed) => {
      const random = randomOf(seed);
      const world: World = { objects: new Map(), keys: "{}" };
      for (let count = 0; count < 25; count++) change(world, random, count);
      const connected = proxies();
      let before = contextOf(world);
      const held = connected.map((proxy) => everything(proxy, before));
      for (let step = 0; step < 40; step++) {
        const kinds = new Set(Array.from({ length: random.pick([1, 1, 1, 3]) }, () => change(world, random, 100 + step)));
        const after = contextOf(world, before);
        const request = planPush(
          kinds,
          before,
          after,
          connected.map(({ namespace }) => namespace),
        );
        after.keepUnaltered(before, request ?? { typeUrls: new Set(), clusters: undefined });
        const fresh = contextOf(world);
        for (const [index, proxy] of connected.entries()) {
          if (request) apply(held[index]!, scopeFor(request, proxy, before, after), proxy, after);
          const wanted = asObject(everything(proxy, fresh));
          const what = `step ${step}, ${[...kinds].join()}, ${proxy.id}`;
          expect(asObject(held[index]!), `pushed: ${what}`).toEqual(wanted);
          // Its own node object, as of a proxy that connects now.
          expect(asObject(everything({ ...proxy } as ProxyNode, after)), `asked: ${what}`).toEqual(wanted);
        }
        before = after;
      }
    },
  );
});
