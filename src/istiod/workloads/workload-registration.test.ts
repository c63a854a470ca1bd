import { status } from "@grpc/grpc-js";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { StreamRefused } from "../../ads/server.ts";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ObjectOf } from "../../api/kinds/index.ts";
import { type ProxyNode, parseLocality } from "../../api/node.ts";
import { MemoryStore } from "../../config/memory.ts";
import { RegistrationMetrics } from "./registration-metrics.ts";
import { type RegisteringProxy, WorkloadRegistration } from "./workload-registration.ts";

const graceMs = 10_000;
const identities = [{ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "ratings" }];

describe("WorkloadRegistration", () => {
  let store: MemoryStore;
  let registration: WorkloadRegistration;
  const refusals: StreamRefused[] = [];
  beforeEach(async () => {
    vi.useFakeTimers({ now: Date.parse("2026-01-01T00:00:00Z") });
    refusals.length = 0;
    store = new MemoryStore();
    await store.put(group());
    registration = start();
  });
  afterEach(() => {
    registration[Symbol.dispose]();
    vi.useRealTimers();
  });

  const start = () =>
    new WorkloadRegistration({
      store,
      instanceId: "istiod-a",
      metrics: new RegistrationMetrics(new Registry()),
      graceMs,
      restartGraceMs: 60_000,
    });
  const entry = (name = "ratings-10.0.0.5") =>
    store.get({ kind: "WorkloadEntry", namespace: "shop", name }) as ObjectOf<"WorkloadEntry"> | undefined;
  const healthOf = () => (entry()?.status?.conditions as { type: string; status: string; message?: string }[] | undefined)?.[0];
  /** Lets what was begun be written. */
  const settle = () => vi.advanceTimersByTimeAsync(0);
  const connecting = (node: Partial<ProxyNode> = {}, over: Partial<RegisteringProxy> = {}): RegisteringProxy => ({
    proxy: nodeOf(node),
    identities,
    connectedAt: new Date(),
    close: (reason) => void refusals.push(reason),
    ...over,
  });

  it("makes an entry of the group's template and of what the node knows", async () => {
    registration.connect(
      connecting({ labels: { version: "vm", "istio-locality": "eu.a" }, network: "edge", locality: parseLocality("eu/a") }),
    );
    await settle();
    const made = entry("ratings-10.0.0.5-edge")!;
    expect(made.spec).toMatchObject({
      address: "10.0.0.5",
      labels: { app: "ratings", version: "vm", tier: "group" },
      serviceAccount: "ratings",
      network: "edge",
      locality: "eu/a",
      weight: 3,
      ports: { http: 9080 },
    });
    expect(made.metadata.labels).toEqual({ app: "ratings", version: "vm", tier: "group" });
    expect(made.metadata.annotations).toEqual({
      "istio.io/autoRegistrationGroup": "ratings",
      "istio.io/workloadController": "istiod-a",
      "istio.io/connectedAt": "2026-01-01T00:00:00.000Z",
      note: "of the group",
    });
    expect(made.metadata.ownerReferences).toMatchObject([{ kind: "WorkloadGroup", name: "ratings", controller: true }]);
  });

  it("keeps the template's locality for a node that says none", async () => {
    registration.connect(connecting());
    await settle();
    expect(entry()!.spec.locality).toBe("region/zone");
  });

  it("names an entry of IPv6 without colons", async () => {
    registration.connect(connecting({ ipAddresses: ["2001:db8::5"] }));
    await settle();
    expect(entry("ratings-2001-db8--5")?.spec.address).toBe("2001:db8::5");
  });

  it("deletes the entry when the agent has been away for the grace period", async () => {
    const registered = registration.connect(connecting())!;
    await settle();
    registered.disconnect();
    await vi.advanceTimersByTimeAsync(graceMs - 1);
    expect(entry()!.metadata.annotations["istio.io/disconnectedAt"]).toBe("2026-01-01T00:00:00.000Z");
    await vi.advanceTimersByTimeAsync(2);
    expect(entry()).toBeUndefined();
  });

  it("keeps the entry of an agent that comes back in time, and of one with a second stream", async () => {
    const first = registration.connect(connecting())!;
    const second = registration.connect(connecting())!;
    first.disconnect();
    await vi.advanceTimersByTimeAsync(2 * graceMs);
    expect(entry()!.metadata.annotations["istio.io/connectedAt"]).toBeDefined();
    second.disconnect();
    await vi.advanceTimersByTimeAsync(graceMs / 2);
    registration.connect(connecting());
    await vi.advanceTimersByTimeAsync(2 * graceMs);
    expect(entry()!.metadata.annotations["istio.io/disconnectedAt"]).toBeUndefined();
  });

  const strangers: readonly [string, Partial<ProxyNode>, Partial<RegisteringProxy>, status, RegExp][] = [
    ["without a group", { metadata: { AUTO_REGISTER_GROUP: "none" } }, {}, status.FAILED_PRECONDITION, /no WorkloadGroup shop\/none/],
    ["over plaintext", {}, { identities: undefined }, status.PERMISSION_DENIED, /needs an identity: connect by TLS/],
    [
      "of another account",
      {},
      { identities: [{ ...identities[0]!, serviceAccount: "reviews" }] },
      status.PERMISSION_DENIED,
      /needs an identity of namespace shop and service account ratings/,
    ],
    ["of another namespace", {}, { identities: [{ ...identities[0]!, namespace: "other" }] }, status.PERMISSION_DENIED, /namespace shop/],
    ["that says to be an entry which is not there", { metadata: { WORKLOAD_ENTRY: "x" } }, {}, status.FAILED_PRECONDITION, /shop\/x/],
  ];
  it.each(strangers)("refuses an agent %s", async (_, node, over, code, message) => {
    const connect = () => registration.connect(connecting(node, over));
    expect(connect).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    await settle();
    expect(entry()).toBeUndefined();
  });

  it("lets a proxy be that is no such workload", () => {
    expect(registration.connect(connecting({ metadata: {} }))).toBeUndefined();
  });

  it("tells the second machine of one address so, as long as the first is there", async () => {
    const first = registration.connect(connecting())!;
    const second = () => registration.connect(connecting({ nodeId: "sidecar~10.0.0.5~other.shop~d", id: "other.shop" }));
    expect(second).toThrow(expect.objectContaining({ code: status.ALREADY_EXISTS, message: expect.stringContaining("two machines") }));
    first.disconnect();
    expect(second()).toBeDefined();
  });

  describe("of a machine that has been given another address", () => {
    const moved = { ipAddresses: ["10.0.0.6"], nodeId: "sidecar~10.0.0.6~vm.shop~d" };
    const metadata = { AUTO_REGISTER_GROUP: "ratings", TOPSAIL_FORMER_ADDRESSES: "10.0.0.5" };

    it("takes the place of the entry of before, whose stream may not be known to be dead", async () => {
      registration.connect(connecting());
      await settle();
      registration.connect(connecting({ ...moved, metadata }));
      await settle();
      expect([entry(), entry("ratings-10.0.0.6")?.spec.address]).toEqual([undefined, "10.0.0.6"]);
      expect(refusals).toEqual([expect.objectContaining({ code: status.CANCELLED, message: "the machine has the address 10.0.0.6 now" })]);
    });

    it("leaves the entry of another machine, another account or another group alone", async () => {
      registration.connect(connecting({ id: "other.shop" }));
      await settle();
      registration.connect(connecting({ ...moved, metadata }));
      await settle();
      expect(entry()).toBeDefined();
      await store.put(decoded({ ...(entry()!.raw as object), spec: { address: "10.0.0.5", serviceAccount: "reviews" } }));
      registration.connect(
        connecting({ ...moved, metadata, id: "other.shop", ipAddresses: ["10.0.0.7"], nodeId: "sidecar~10.0.0.7~other.shop~d" }),
      );
      await settle();
      expect(entry()).toBeDefined();
      expect(refusals).toEqual([]);
    });
  });

  describe("when the clock is set back by an hour", () => {
    it("still deletes the entry of an agent that stays away, after the grace period", async () => {
      const registered = registration.connect(connecting())!;
      await settle();
      registered.disconnect();
      await settle();
      vi.setSystemTime(Date.now() - 3600_000);
      await vi.advanceTimersByTimeAsync(3 * graceMs);
      expect(entry()).toBeUndefined();
    });

    it("still takes an agent that comes back to be the one that is connected", async () => {
      registration.connect(connecting());
      await settle();
      registration[Symbol.dispose]();
      vi.setSystemTime(Date.now() - 3600_000);
      registration = start();
      registration.connect(connecting());
      await settle();
      expect(entry()!.metadata.annotations["istio.io/connectedAt"]).toBe(new Date().toISOString());
    });
  });

  it("takes an entry to be unwell until its agent says otherwise, and writes down why", async () => {
    const probed = { metadata: { AUTO_REGISTER_GROUP: "ratings", PROXY_CONFIG: { readinessProbe: { httpGet: { port: 80 } } } } };
    const registered = registration.connect(connecting(probed))!;
    registered.report("connection refused");
    await settle();
    expect(entry()!.metadata.annotations["proxy.istio.io/health-checks-enabled"]).toBe("true");
    expect(healthOf()).toMatchObject({ type: "Healthy", status: "False", message: "connection refused" });
    registered.report(undefined);
    await settle();
    expect(healthOf()).toMatchObject({ status: "True" });
    expect(healthOf()).not.toHaveProperty("message");
  });

  it("only takes the condition from an entry that a user made", async () => {
    await store.put(
      decoded({
        apiVersion: "networking.istio.io/v1",
        kind: "WorkloadEntry",
        metadata: { name: "mine", namespace: "shop", annotations: { "proxy.istio.io/health-checks-enabled": "true" } },
        spec: { address: "10.0.0.9", serviceAccount: "ratings" },
      }),
    );
    const registered = registration.connect(connecting({ metadata: { WORKLOAD_ENTRY: "mine" } }))!;
    registered.report(undefined);
    await settle();
    expect(entry("mine")!.status?.conditions).toHaveLength(1);
    registered.disconnect();
    await vi.advanceTimersByTimeAsync(2 * graceMs);
    expect(entry("mine")!.status?.conditions).toEqual([]);
  });

  it("deletes entries with their group, and makes them again with it for agents that are still there", async () => {
    registration.connect(connecting());
    await settle();
    await store.delete({ kind: "WorkloadGroup", namespace: "shop", name: "ratings" });
    await settle();
    expect(entry()).toBeUndefined();
    await store.put(group());
    await settle();
    expect(entry()).toBeDefined();
    expect(refusals).toEqual([]);
  });

  it("knows of entries that are made again with their group what agents have said of their health, which they say once", async () => {
    const registered = registration.connect(connecting())!;
    registered.report("connection refused");
    registered.report(undefined);
    await settle();
    await store.delete({ kind: "WorkloadGroup", namespace: "shop", name: "ratings" });
    await settle();
    await store.put(group());
    await settle();
    expect(healthOf()).toMatchObject({ type: "Healthy", status: "True" });
  });

  it("ends the stream of an agent whose entry can't be written", async () => {
    vi.spyOn(store, "put").mockRejectedValue(new Error("disk full"));
    registration.connect(connecting());
    await settle();
    expect(refusals).toEqual([expect.objectContaining({ code: status.UNAVAILABLE, message: "registration failed: disk full" })]);
  });

  it("clears up after an earlier run, for agents that do not come back", async () => {
    registration.connect(connecting());
    registration.connect(connecting({ ipAddresses: ["10.0.0.6"], nodeId: "sidecar~10.0.0.6~b.shop~d" }));
    await settle();
    // It was killed: nothing was written down.
    registration[Symbol.dispose]();
    registration = start();
    registration.connect(connecting());
    await vi.advanceTimersByTimeAsync(59_000);
    expect(entry("ratings-10.0.0.6")).toBeDefined();
    await vi.advanceTimersByTimeAsync(2000);
    expect(entry("ratings-10.0.0.6")).toBeUndefined();
    expect(entry()).toBeDefined();
  });

  it("leaves entries alone that are another control plane's", async () => {
    registration.connect(connecting());
    await settle();
    registration[Symbol.dispose]();
    registration = new WorkloadRegistration({ store, instanceId: "istiod-b", metrics: new RegistrationMetrics(new Registry()) });
    await vi.advanceTimersByTimeAsync(120_000);
    expect(entry()).toBeDefined();
  });

  it("clears up after a run by another name, where the store is nobody else's", async () => {
    registration.connect(connecting());
    await settle();
    registration[Symbol.dispose]();
    const options = { store, instanceId: "istiod-b", isShared: false, graceMs, restartGraceMs: 60_000 };
    registration = new WorkloadRegistration({ ...options, metrics: new RegistrationMetrics(new Registry()) });
    await vi.advanceTimersByTimeAsync(59_000);
    expect(entry()).toBeDefined();
    await vi.advanceTimersByTimeAsync(2000);
    expect(entry()).toBeUndefined();
  });

  it("gives up what another write has overtaken, and decides anew", async () => {
    const put = store.put.bind(store);
    let isFirst = true;
    vi.spyOn(store, "put").mockImplementation(async (object, precondition) => {
      if (isFirst && object.kind === "WorkloadEntry") {
        isFirst = false;
        await put(object);
      }
      return put(object, precondition);
    });
    registration.connect(connecting());
    await settle();
    expect(entry()).toBeDefined();
    expect(refusals).toEqual([]);
  });
});

function group() {
  return decoded({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadGroup",
    metadata: { name: "ratings", namespace: "shop" },
    spec: {
      metadata: { labels: { app: "ratings", tier: "group" }, annotations: { note: "of the group" } },
      template: { serviceAccount: "ratings", weight: 3, locality: "region/zone", labels: { tier: "template" }, ports: { http: 9080 } },
    },
  });
}

function decoded(raw: unknown) {
  const { object, errors } = decodeObject(raw);
  if (!object) throw errors[0];
  return object;
}

function nodeOf(over: Partial<ProxyNode>): ProxyNode {
  return {
    nodeId: "sidecar~10.0.0.5~vm.shop~shop.svc.cluster.local",
    type: "sidecar",
    ipAddresses: ["10.0.0.5"],
    isDualStack: false,
    id: "vm.shop",
    dnsDomain: "shop.svc.cluster.local",
    namespace: "shop",
    labels: {},
    locality: parseLocality(""),
    clusterId: "Kubernetes",
    network: "",
    serviceAccount: "ratings",
    istioVersion: "1.30",
    hasIdentity: true,
    hasIstioFilters: false,
    hasGrpcStats: true,
    tellsOnlyMesh: false,
    metadata: { AUTO_REGISTER_GROUP: "ratings" },
    ...over,
  };
}
