/**
 * The heart of the control plane: configuration changes on one side, connected proxies on the other.
 *
 *   store, mesh file ──events──> Debouncer ──> PushContext (new) ──plan──> queue ──> each connection: generate, compare, send
 *
 * A push context is swapped in whole; what a proxy asks in between is answered from the newest one. Proxies are served in turn with
 * a breath every few milliseconds, so that requests, ACKs and debug pages are not held up by a large push.
 */
import { hostname } from "node:os";
import { setImmediate as breathe } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { type AdsConnection, type AdsHandler, type AdsSession, type Peer, StreamRefused } from "../ads/server.ts";
import type { Watch } from "../ads/subscription.ts";
import type { Node } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { formatKey, keyOf } from "../api/kinds/object.ts";
import type { MeshConfig } from "../api/mesh/mesh-config.ts";
import type { MeshNetworks } from "../api/mesh/mesh-networks.ts";
import type { ProxyNode } from "../api/node.ts";
import type { TrustUpdate } from "../api/trust-update.ts";
import { typeUrls } from "../api/type-urls.ts";
import type { ConfigStore } from "../config/store.ts";
import { log } from "../lib/log.ts";
import { isLoopback } from "../lib/loopback.ts";
import { Turns } from "../lib/turns.ts";
import type { AddressAllocation } from "../registry/allocated-addresses.ts";
import { admitNode } from "./admit-node.ts";
import type { JwksResolver } from "./jwks/jwks-resolver.ts";
import { type JwksFetchMode, jwksSourcesOf } from "./jwks/jwks-source.ts";
import { IstiodMetrics, shortType } from "./metrics.ts";
import { Newcomers } from "./newcomers.ts";
import { ObjectRemarks } from "./object-remarks.ts";
import { concernsProxies } from "./push/concerns-proxies.ts";
import { Debouncer, type Urgency } from "./push/debounce.ts";
import { isAboutEndpoints } from "./push/endpoint-events.ts";
import { PatchStatus } from "./push/patch-status.ts";
import { PushContext } from "./push/push-context.ts";
import { type ChangedKind, planPush, scopeFor } from "./push/push-request.ts";
import { untranslated } from "./push/untranslated.ts";
import { objectsOf } from "./store-objects.ts";
import type { Registration, WorkloadRegistration } from "./workloads/workload-registration.ts";
import { generatorFor } from "./xds/generators.ts";
import { policyProblems } from "./xds/policy-problems.ts";

const scope = log.scope("ads");

/** A push waits so long for the keys of new token issuers: better late than with tokens refused in between. */
const keysPatienceMs = 2000;

/** A push goes on for so long before it lets others have their turn, and so do first answers. */
const turnMs = 5;

/** So long they wait for those who are just connecting. */
const newcomersFirstMs = 2000;

const nothing = { typeUrls: new Set<string>(), clusters: undefined };

export interface DiscoveryServerOptions {
  readonly store: ConfigStore;
  readonly mesh: MeshConfig;
  /** Networks as the operator lists them. */
  readonly networks?: MeshNetworks | undefined;
  readonly domain: string;
  /** How services without address get one; default hashed. */
  readonly allocation?: AddressAllocation;
  /** Name of this control plane in proxy-status. */
  readonly instanceId?: string;
  /** A push waits until events have paused for this long; default 100. Istio PILOT_DEBOUNCE_AFTER. */
  readonly debounceQuietMs?: number;
  /** At most this long after the first event; default 10,000. Istio PILOT_DEBOUNCE_MAX. */
  readonly debounceMaxMs?: number;
  /** Fetches the keys of token issuers; absent: nobody does, and tokens of issuers whose keys aren't in the policy are refused. */
  readonly jwks?: JwksResolver;
  /** Default `istiod`. */
  readonly jwksFetchMode?: JwksFetchMode;
  /** Makes WorkloadEntries of agents that register themselves; absent: none do. */
  readonly registration?: WorkloadRegistration;
  /** Default: metrics of its own. */
  readonly metrics?: IstiodMetrics;
  /** Connected proxies at most; the next is refused. Default 20,000. */
  readonly maxConnections?: number;
}

/** One connected proxy. */
export interface Connected {
  readonly id: string;
  readonly proxy: ProxyNode;
  readonly connection: AdsConnection;
  readonly peer: Peer;
  readonly connectedAt: Date;
  /** Of a workload whose WorkloadEntry follows its agent. */
  readonly registration: Registration | undefined;
  /** It has taken its listeners once: it serves. */
  isReady: boolean;
  /** What is wrong with its workload, as its agent reports. */
  healthProblem: string | undefined;
}

export type ConnectionObserver = (entry: Connected, isConnected: boolean) => void;

export class DiscoveryServer implements AdsHandler, Disposable {
  readonly metrics: IstiodMetrics;
  readonly instanceId: string;
  readonly store: ConfigStore;
  /** On all ports. */
  readonly newcomers = new Newcomers();
  readonly turns = new Turns(turnMs, { while: () => this.newcomers.areWaiting(), maxMs: newcomersFirstMs });
  readonly #options: DiscoveryServerOptions;
  readonly #connected = new Map<string, Connected>();
  readonly #observers = new Set<ConnectionObserver>();
  readonly #debouncer: Debouncer<ChangedKind>;
  readonly #watch: Disposable;
  readonly #meshListeners = new Set<(mesh: MeshConfig) => void>();
  #mesh: MeshConfig;
  #networks: MeshNetworks | undefined;
  #trust: TrustUpdate = { roots: [], revocations: undefined };
  #context: PushContext;
  #pushCounter = 0;
  #connectionCounter = 0;
  #firstEventAt = 0;
  #bytesSent = 0;
  #isReady = false;
  readonly #untranslated = new ObjectRemarks("configuration has no effect");
  readonly #policyProblems = new ObjectRemarks("policy is in force in part");
  /** What became of the patches of EnvoyFilters. */
  readonly patchStatus = new PatchStatus(({ object, index }, reason) =>
    scope.warn("patch is not applied", { object: formatKey(keyOf(object)), patch: `configPatches[${index}]`, reason }),
  );

  constructor(options: DiscoveryServerOptions) {
    this.#options = options;
    this.metrics = options.metrics ?? new IstiodMetrics();
    this.store = options.store;
    this.instanceId = options.instanceId ?? hostname();
    this.#mesh = options.mesh;
    this.#networks = options.networks;
    this.#context = this.#newContext();
    this.#debouncer = new Debouncer({
      quietMs: options.debounceQuietMs ?? 100,
      maxMs: options.debounceMaxMs ?? 10_000,
      onQuiet: (kinds) => this.#push(new Set(kinds)),
    });
    options.jwks?.observe({
      onChange: () => this.#onChange(["Jwks"]),
      onFetched: (isSuccess) => this.metrics.onKeysFetched(isSuccess),
    });
    this.#watch = options.store.watch((events) => {
      this.metrics.inboundUpdates.inc({ type: "config" }, events.length);
      const relevant = events.filter(concernsProxies);
      if (relevant.length === 0) return;
      const kinds = relevant.map((event) => event.object.kind);
      this.#onChange(kinds, relevant.every(isAboutEndpoints) ? "endpoints" : "configuration");
    });
  }

  get context(): PushContext {
    return this.#context;
  }

  get mesh(): MeshConfig {
    return this.#mesh;
  }

  get connected(): readonly Connected[] {
    return [...this.#connected.values()];
  }

  /** Calls back when proxies come, go, or change in how they do. */
  observeConnected(onChange: ConnectionObserver): Disposable {
    this.#observers.add(onChange);
    return { [Symbol.dispose]: () => void this.#observers.delete(onChange) };
  }

  /** What the objects of the newest context ask for and does not happen: `Kind/namespace/name: sentence`. */
  get untranslated(): readonly string[] {
    return this.#untranslated.lines;
  }

  /** What is in the way of security policies of the newest context, in the same form. */
  get policyProblems(): readonly string[] {
    return this.#policyProblems.lines;
  }

  /** Of resources, to all proxies. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Asks for the keys of token issuers; afterwards they are there, or at least somewhat likely not to come soon. */
  async fetchKeys(): Promise<void> {
    const { jwks, jwksFetchMode = "istiod" } = this.#options;
    await jwks?.want(jwksSourcesOf(this.store.list(), jwksFetchMode), keysPatienceMs);
  }

  /** Everything has been read: streams are taken from now on. */
  markReady(): void {
    this.#context = this.#newContext();
    this.#isReady = true;
  }

  setMesh(mesh: MeshConfig): void {
    this.#mesh = mesh;
    for (const listener of this.#meshListeners) listener(mesh);
    this.#onChange(["MeshConfig"]);
  }

  onMesh(listener: (mesh: MeshConfig) => void): Disposable {
    this.#meshListeners.add(listener);
    return { [Symbol.dispose]: () => this.#meshListeners.delete(listener) };
  }

  setNetworks(networks: MeshNetworks | undefined): void {
    this.#networks = networks;
    this.#onChange(["MeshConfig"]);
  }

  setTrust(trust: TrustUpdate): void {
    this.#trust = trust;
    this.#onChange(["TrustBundle"]);
  }

  /** Brings up to date what is counted only when somebody looks. */
  collectMetrics(): void {
    this.metrics.collect();
    const { rejectedConfigs } = this.metrics;
    rejectedConfigs.reset();
    for (const { gateway } of this.gatewayConflicts()) rejectedConfigs.inc({ type: "gateway", name: gateway });
    this.metrics.showPatches(this.#context.envoyFilters.objects, this.patchStatus);
  }

  /** Servers of Gateways that a connected gateway could not be given. */
  gatewayConflicts(): { proxy: string; gateway: string; reason: string }[] {
    return this.connected
      .filter(({ proxy }) => proxy.type === "router")
      .flatMap(({ id, proxy }) => this.#context.mergedGateway(proxy).conflicts.map((conflict) => ({ proxy: id, ...conflict })));
  }

  /** Pushes everything to everybody; /debug/adsz?push=true. */
  pushAll(): void {
    this.#onChange(["MeshConfig", "Secret"]);
  }

  onConnect(node: Node | undefined, connection: AdsConnection, peer: Peer): AdsSession {
    if (!this.#isReady) throw new StreamRefused(status.UNAVAILABLE, "server is not ready to serve discovery information");
    if (this.#connected.size >= (this.#options.maxConnections ?? 20_000)) {
      throw new StreamRefused(status.RESOURCE_EXHAUSTED, "too many connected proxies");
    }
    const proxy = admitNode(node, peer);
    const id = `${proxy.id}-${++this.#connectionCounter}`;
    const connectedAt = new Date();
    const close = (reason: StreamRefused) => connection.close(reason);
    const registration = this.#options.registration?.connect({ proxy, identities: peer.identities, connectedAt, close });
    const entry: Connected = { id, proxy, connection, peer, connectedAt, registration, isReady: false, healthProblem: undefined };
    this.#connected.set(id, entry);
    this.#tellObservers(entry);
    this.metrics.connected.inc({ version: proxy.istioVersion || "unknown" });
    scope.info("proxy connected", { proxy: id, type: proxy.type, peer: peer.address, protocol: connection.kind });
    return this.#session(entry);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#debouncer[Symbol.dispose]();
    for (const { connection } of this.#connected.values())
      connection.close(new StreamRefused(status.UNAVAILABLE, "server is shutting down"));
  }

  #tellObservers(entry: Connected): void {
    const isConnected = this.#connected.has(entry.id);
    for (const onChange of this.#observers) onChange(entry, isConnected);
  }

  #session(entry: Connected): AdsSession {
    const { id, proxy, peer, registration } = entry;
    const { metrics } = this;
    // Over plaintext nobody has proved anything; what listens on loopback is this machine's own.
    const mayReadSecrets = peer.identities !== undefined || isLoopback(addressOf(peer));
    return {
      generate: (watch, names) => {
        if (watch.typeUrl === typeUrls.sds && !mayReadSecrets) {
          scope.warn("secrets are not given over plaintext", { proxy: id, peer: peer.address });
          return [];
        }
        return this.#generate(proxy, id, watch, names);
      },
      version: () => this.#context.version,
      onNack: (typeUrl, message) => {
        metrics.onReject(typeUrl, proxy.id);
        scope.warn("proxy refused configuration", { proxy: id, type: shortType(typeUrl), reason: message });
      },
      onAck: (typeUrl) => {
        metrics.onAccept(typeUrl, proxy.id);
        if (entry.isReady || typeUrl !== typeUrls.lds) return;
        entry.isReady = true;
        this.#tellObservers(entry);
      },
      onHealth: (problem) => {
        registration?.report(problem);
        if (entry.healthProblem === problem) return;
        entry.healthProblem = problem;
        this.#tellObservers(entry);
      },
      onStale: (typeUrl) => metrics.expiredNonce.inc({ type: shortType(typeUrl) }),
      onSent: (typeUrl, resources, bytes) => {
        this.#bytesSent += bytes;
        metrics.pushes.inc({ type: shortType(typeUrl) });
        metrics.configSize.observe({ type: shortType(typeUrl) }, bytes);
        scope.debug("sent", { proxy: id, type: shortType(typeUrl), resources, bytes });
      },
      onClosed: () => {
        this.#connected.delete(id);
        this.#tellObservers(entry);
        registration?.disconnect();
        metrics.connected.dec({ version: proxy.istioVersion || "unknown" });
        scope.info("proxy disconnected", { proxy: id });
      },
    };
  }

  #generate(proxy: ProxyNode, id: string, watch: Watch, names: ReadonlySet<string> | undefined) {
    const generate = generatorFor(proxy, watch.typeUrl);
    if (!generate) {
      scope.warn("proxy asks for a type that is not served", { proxy: id, type: watch.typeUrl });
      return undefined;
    }
    const started = performance.now();
    try {
      return generate(
        {
          proxy,
          push: this.#context,
          onProblem: (typeUrl, name, reason) => scope.warn("resource can't be had", { proxy: id, type: shortType(typeUrl), name, reason }),
        },
        watch,
        names,
      );
    } catch (error) {
      // One proxy's trouble is not the others': it keeps what it has.
      this.metrics.internalErrors.inc();
      scope.error("generating failed", {
        proxy: id,
        type: shortType(watch.typeUrl),
        error: error instanceof Error ? (error.stack ?? error.message) : error,
      });
      return undefined;
    } finally {
      this.metrics.pushTime.observe({ type: shortType(watch.typeUrl) }, (performance.now() - started) / 1000);
    }
  }

  #onChange(kinds: readonly ChangedKind[], urgency: Urgency = "configuration"): void {
    if (this.#firstEventAt === 0) this.#firstEventAt = performance.now();
    this.#debouncer.add(kinds, urgency);
  }

  async #push(kinds: ReadonlySet<ChangedKind>): Promise<void> {
    const firstEventAt = this.#firstEventAt;
    this.#firstEventAt = 0;
    this.metrics.debounceTime.observe((performance.now() - firstEventAt) / 1000);
    if (kinds.has("RequestAuthentication")) await this.fetchKeys();
    const before = this.#context;
    let after: PushContext;
    try {
      after = this.#newContext(before);
    } catch (error) {
      this.metrics.internalErrors.inc();
      scope.error("push context can't be built, the old one stays", {
        error: error instanceof Error ? (error.stack ?? error.message) : error,
      });
      return;
    }
    this.#context = after;
    const request = planPush(
      kinds,
      before,
      after,
      this.connected.map(({ proxy }) => proxy.namespace),
    );
    after.keepUnaltered(before, request ?? nothing);
    if (!request) return;
    this.metrics.pushTriggers.inc({ type: request.reason });
    const queuedAt = performance.now();
    const connections = [...this.#connected.values()];
    scope.info("push", { reason: request.reason, kinds: [...kinds].join(","), proxies: connections.length, version: after.version });
    let turnEndsAt = performance.now() + turnMs;
    for (const { proxy, connection } of connections) {
      const proxyScope = scopeFor(request, proxy, before, after);
      this.metrics.queueTime.observe((performance.now() - queuedAt) / 1000);
      if (!proxyScope) continue;
      connection.push(proxyScope);
      this.metrics.convergenceTime.observe((performance.now() - firstEventAt) / 1000);
      if (performance.now() < turnEndsAt) continue;
      await breathe();
      turnEndsAt = performance.now() + turnMs;
    }
  }

  #newContext(older?: PushContext): PushContext {
    const started = performance.now();
    const version = `${new Date().toISOString().replace(/\.\d+Z$/, "Z")}/${++this.#pushCounter}`;
    const input = {
      version,
      mesh: this.#mesh,
      objects: objectsOf(this.store),
      domain: this.#options.domain,
      trust: this.#trust,
      patchOutcomes: this.patchStatus,
      ...(this.#networks ? { networks: this.#networks } : {}),
      ...(this.#options.allocation ? { allocation: this.#options.allocation } : {}),
      ...(this.#options.jwks ? { jwks: this.#options.jwks.snapshot() } : {}),
      ...(this.#options.jwksFetchMode ? { jwksFetchMode: this.#options.jwksFetchMode } : {}),
    };
    const context = new PushContext(input, older);
    for (const problem of context.networks.problems) scope.warn("network gateway can't be used", { problem });
    this.metrics.contextTime.observe((performance.now() - started) / 1000);
    this.metrics.services.set(context.registry.services.length);
    this.metrics.virtualServices.set(context.virtualServices.all.length);
    this.patchStatus.keep(context.envoyFilters.objects);
    const objects = this.store.list();
    this.#untranslated.replace(objects, untranslated);
    this.#policyProblems.replace(objects, (object) => policyProblems(object, context));
    return context;
  }
}

/** `ip:port` without the port. */
function addressOf({ address }: Peer): string {
  return address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
}
