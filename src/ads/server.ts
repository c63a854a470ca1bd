/**
 * The ADS protocol, server side: state of the world and delta on one gRPC service.
 *
 * A stream becomes a connection when its first request brings a node that the handler takes. From then on the client's requests
 * are decided by `Subscriptions`, and answers come from the handler's session; `push` sends what differs from what the client has.
 * A client that does not read holds up only itself: while its stream is full nothing more is written, and pushes that fall
 * into that time melt into one, made from the newest state when it reads again.
 *
 * Both protocols send only what changed: a delta stream the changed resources and the names of those that went, a
 * state-of-the-world stream of a wildcard type the whole set when any of it changed, of a named type the changed names.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ServerDuplexStream, type ServiceDefinition, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Node } from "../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { SpiffeId } from "../api/spiffe.ts";
import { healthReportTypeUrl, typeUrls } from "../api/type-urls.ts";
import { Turns } from "../lib/turns.ts";
import type { EncodedResource } from "./resource.ts";
import { deltaResponse, sotwResponse } from "./response-bytes.ts";
import { SharedResponses } from "./shared-responses.ts";
import { type Decision, isWildcardType, Subscriptions, type Watch } from "./subscription.ts";

/** Refuses a stream with a gRPC status; anything else that a handler throws becomes Internal. */
export class StreamRefused extends Error {
  override readonly name = "StreamRefused";
  readonly code: status;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

export interface Peer {
  /** `ip:port` of the client. */
  readonly address: string;
  /** Who the client proved to be; undefined on a port that does not ask. */
  readonly identities: readonly SpiffeId[] | undefined;
}

/** Who calls; rejects with StreamRefused. */
export type AuthenticateStream = (call: ServerDuplexStream<unknown, unknown>) => Promise<readonly SpiffeId[]>;

/** What the control plane knows of one connected client. */
export interface AdsSession {
  /** Resources of the type that the watch covers, of `names` alone where given; undefined: unknown type, answered by nothing. */
  generate(watch: Watch, names: ReadonlySet<string> | undefined): readonly EncodedResource[] | undefined;
  /** Version that responses carry, `2026-11-24T15:04:05Z/12`. */
  version(): string;
  onNack(typeUrl: string, message: string): void;
  onAck(typeUrl: string): void;
  onStale(typeUrl: string): void;
  /** The client's workload is well, or what is wrong with it. */
  onHealth?(problem: string | undefined): void;
  onSent(typeUrl: string, resources: number, bytes: number): void;
  onClosed(): void;
}

export interface AdsHandler {
  /** Throws StreamRefused for a node that can't be served. */
  onConnect(node: Node | undefined, connection: AdsConnection, peer: Peer): AdsSession;
  /** In which questions are answered; default: one for all handlers without their own. */
  readonly turns?: Turns;
}

/** Which types a push may change, and of clusters and their endpoints which. Absent: everything. */
export interface PushScope {
  readonly typeUrls?: ReadonlySet<string>;
  readonly clusters?: ReadonlySet<string>;
}

/** Order in which a push goes out, so that nothing refers to what the client does not have yet. */
const pushOrder = [
  typeUrls.cds,
  typeUrls.eds,
  typeUrls.lds,
  typeUrls.rds,
  typeUrls.sds,
  typeUrls.ecds,
  typeUrls.nds,
  typeUrls.pcds,
] as const;

export interface AdsConnection {
  readonly kind: "sotw" | "delta";
  readonly subscriptions: Subscriptions;
  push(scope: PushScope): void;
  close(error: StreamRefused): void;
}

/** What differs between the two protocols. */
interface Dialect<Request> {
  readonly kind: "sotw" | "delta";
  node(request: Request): Node | undefined;
  typeUrl(request: Request): string;
  errorMessage(request: Request): string | undefined;
  decide(subscriptions: Subscriptions, request: Request): Decision;
  readonly responses: SharedResponses;
}

const sotw: Dialect<DiscoveryRequest> = {
  kind: "sotw",
  node: (request) => request.node,
  typeUrl: (request) => request.typeUrl,
  errorMessage: (request) => request.errorDetail?.message,
  decide: (subscriptions, request) =>
    subscriptions.decideSotw({
      typeUrl: request.typeUrl,
      resourceNames: request.resourceNames,
      responseNonce: request.responseNonce,
      errorMessage: request.errorDetail?.message,
    }),
  responses: new SharedResponses(sotwResponse),
};

const delta: Dialect<DeltaDiscoveryRequest> = {
  kind: "delta",
  node: (request) => request.node,
  typeUrl: (request) => request.typeUrl,
  errorMessage: (request) => request.errorDetail?.message,
  decide: (subscriptions, request) =>
    subscriptions.decideDelta({
      typeUrl: request.typeUrl,
      subscribe: request.resourceNamesSubscribe,
      unsubscribe: request.resourceNamesUnsubscribe,
      initialVersions: request.initialResourceVersions,
      responseNonce: request.responseNonce,
      errorMessage: request.errorDetail?.message,
    }),
  responses: new SharedResponses(deltaResponse),
};

const usualTurns = new Turns(5);

class Connection<Request> implements AdsConnection {
  readonly kind: "sotw" | "delta";
  readonly subscriptions = new Subscriptions();
  readonly #stream: ServerDuplexStream<Request, Buffer>;
  readonly #dialect: Dialect<Request>;
  readonly #handler: AdsHandler;
  readonly #identities: readonly SpiffeId[] | undefined;
  #session: AdsSession | undefined;
  #isFull = false;
  #isClosed = false;
  /** Pushes that came while the client did not read. */
  #waiting: PushScope | undefined;

  constructor(
    stream: ServerDuplexStream<Request, Buffer>,
    dialect: Dialect<Request>,
    handler: AdsHandler,
    identities: readonly SpiffeId[] | undefined,
  ) {
    this.#stream = stream;
    this.#dialect = dialect;
    this.#handler = handler;
    this.#identities = identities;
    this.kind = dialect.kind;
    stream.on("data", (request: Request) => this.#onRequest(request));
    stream.on("drain", () => this.#onDrain());
    stream.on("end", () => this.#onEnd());
    stream.on("cancelled", () => this.#onEnd());
    stream.on("error", () => this.#onEnd());
  }

  push(scope: PushScope): void {
    if (this.#isClosed) return;
    if (this.#isFull) {
      this.#waiting = mergeScopes(this.#waiting, scope);
      return;
    }
    let changedClusters: ReadonlySet<string> | undefined;
    for (const typeUrl of pushOrder) {
      const watch = this.subscriptions.watches.get(typeUrl);
      if (!watch) continue;
      if (typeUrl === typeUrls.eds && changedClusters) this.#sendAgain(watch, changedClusters);
      if (scope.typeUrls && !scope.typeUrls.has(typeUrl)) continue;
      // State of the world tells clusters all or not at all.
      const isByCluster = typeUrl === typeUrls.eds || (typeUrl === typeUrls.cds && this.kind === "delta");
      const sent = this.#send(watch, isByCluster ? scope.clusters : undefined, false);
      // A cluster that changed warms again, and waits for its endpoints even if those are what they were.
      if (typeUrl === typeUrls.cds && this.kind === "delta" && sent.length > 0) changedClusters = namesOf(sent);
    }
  }

  close(error: StreamRefused): void {
    if (this.#isClosed) return;
    this.#stream.emit("error", { code: error.code, details: error.message });
    this.#onEnd();
  }

  #onRequest(request: Request): void {
    if (this.#isClosed) return;
    try {
      this.#session ??= this.#handler.onConnect(this.#dialect.node(request), this, {
        address: this.#stream.getPeer(),
        identities: this.#identities,
      });
    } catch (error) {
      this.close(error instanceof StreamRefused ? error : new StreamRefused(status.INTERNAL, "internal error"));
      if (!(error instanceof StreamRefused)) throw error;
      return;
    }
    const session = this.#session;
    const typeUrl = this.#dialect.typeUrl(request);
    if (typeUrl === healthReportTypeUrl) {
      session.onHealth?.(this.#dialect.errorMessage(request));
      return;
    }
    const decision = this.#dialect.decide(this.subscriptions, request);
    switch (decision.kind) {
      case "nack":
        session.onNack(typeUrl, decision.message);
        this.#answerInTurn(typeUrl, decision.names);
        break;
      case "stale":
        session.onStale(typeUrl);
        this.#answerInTurn(typeUrl, decision.names);
        break;
      case "ack":
        session.onAck(typeUrl);
        break;
      case "unsubscribe":
      case "narrowed":
        break;
      case "respond":
        this.#answerInTurn(typeUrl, decision.names ?? "everything");
        break;
      default:
        decision satisfies never;
    }
  }

  /** The next question is heard when this one has been answered. */
  #answerInTurn(typeUrl: string, names: ReadonlySet<string> | "everything" | undefined): void {
    this.#stream.pause();
    const { turns = usualTurns } = this.#handler;
    turns.add(() => {
      if (this.#isClosed) return;
      this.#answer(typeUrl, names);
      if (!this.#isFull) this.#stream.resume();
    });
  }

  /** Answers a question for names, or for all that the watch covers. */
  #answer(typeUrl: string, names: ReadonlySet<string> | "everything" | undefined): void {
    const watch = this.subscriptions.watches.get(typeUrl);
    if (!watch || !names) return;
    const sent = this.#send(watch, names === "everything" ? undefined : names, true);
    const eds = this.subscriptions.watches.get(typeUrls.eds);
    if (typeUrl === typeUrls.cds && this.kind === "delta" && eds && sent.length > 0) this.#sendAgain(eds, namesOf(sent));
  }

  /** Sends resources of those names whether the client has them or not. */
  #sendAgain(watch: Watch, names: ReadonlySet<string>): void {
    watch.held = watch.held.without(names);
    this.#send(watch, names, true);
  }

  /**
   * Sends what the watch covers and the client does not have; nothing when there is nothing new, unless it `mustAnswer`.
   * Returns what went out.
   */
  #send(watch: Watch, names: ReadonlySet<string> | undefined, mustAnswer: boolean): readonly EncodedResource[] {
    const session = this.#session;
    const wanted = names && !watch.isWildcard ? intersection(names, watch.names) : names;
    if (!session || (wanted && wanted.size === 0)) return none;
    const generated = session.generate(watch, wanted);
    if (!generated) return none;

    const { held } = watch;
    const changed =
      mustAnswer && this.kind === "sotw" ? generated : generated.filter(({ name, version }) => held.version(name) !== version);
    const present = namesOf(generated);
    const expected = [...(wanted ?? held.names)];
    const removed = expected.filter((name) => !present.has(name) && held.has(name));
    // A name asked for that does not exist is told as removed, or the client would wait for it.
    const missing =
      mustAnswer && this.kind === "delta" && !watch.isWildcard
        ? [...(wanted ?? watch.names)].filter((name) => !present.has(name) && !held.has(name))
        : [];
    if (!mustAnswer && changed.length === 0 && removed.length === 0) return none;

    // State of the world has no other way to say "gone" than to leave away, so a wildcard answer is always the whole set.
    const resources = this.kind === "sotw" && isWildcardType(watch.typeUrl) ? generated : changed;
    // Of other types it can't be said at all: nobody hears of a route table that is gone.
    if (!mustAnswer && this.kind === "sotw" && resources.length === 0 && !isWildcardType(watch.typeUrl)) {
      watch.held = held.without(removed);
      return none;
    }
    watch.held = held.after(generated, removed);

    const version = session.version();
    const content = { typeUrl: watch.typeUrl, version, resources, removed: [...removed, ...missing] };
    const { nonce, bytes: message } = this.#dialect.responses.get(content, watch.nonceSent);
    watch.nonceSent = nonce;
    watch.versionSent = version;
    watch.sentAt = Date.now();
    if (!this.#stream.write(message)) {
      this.#isFull = true;
      // Who does not read answers is not listened to either, or its questions would pile up as answers here.
      this.#stream.pause();
    }
    let bytes = 0;
    for (const resource of resources) bytes += resource.bytes.length;
    session.onSent(watch.typeUrl, resources.length, bytes);
    return resources;
  }

  #onDrain(): void {
    this.#isFull = false;
    this.#stream.resume();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) this.push(waiting);
  }

  #onEnd(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#session?.onClosed();
    this.#stream.end();
  }
}

const none: readonly EncodedResource[] = [];

function namesOf(resources: readonly EncodedResource[]): ReadonlySet<string> {
  return new Set(resources.map(({ name }) => name));
}

function intersection(a: ReadonlySet<string>, b: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...a].filter((name) => b.has(name)));
}

/** The union of two scopes; a part that is not limited in one is not limited in both. */
function mergeScopes(a: PushScope | undefined, b: PushScope): PushScope {
  if (!a) return b;
  const union = (x: ReadonlySet<string> | undefined, y: ReadonlySet<string> | undefined) => (x && y ? new Set([...x, ...y]) : undefined);
  const types = union(a.typeUrls, b.typeUrls);
  const clusters = union(a.clusters, b.clusters);
  return { ...(types ? { typeUrls: types } : {}), ...(clusters ? { clusters } : {}) };
}

/** The services of the discovery protocol differ by their paths alone. */
const definitionOf = (service: string, resources: string): ServiceDefinition => ({
  [`Stream${resources}`]: {
    path: `/${service}/Stream${resources}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: (value: DiscoveryRequest) => Buffer.from(toBinary(DiscoveryRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(DiscoveryRequestSchema, bytes),
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
  [`Delta${resources}`]: {
    path: `/${service}/Delta${resources}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
});

/** Nothing of a stream is read before it is known who calls. */
function open<Request>(
  stream: ServerDuplexStream<Request, Buffer>,
  dialect: Dialect<Request>,
  handler: AdsHandler,
  authenticate: AuthenticateStream | undefined,
): void {
  if (!authenticate) {
    new Connection(stream, dialect, handler, undefined);
    return;
  }
  const ignoreAbort = () => {};
  stream.on("error", ignoreAbort);
  authenticate(stream as ServerDuplexStream<unknown, unknown>).then(
    (identities) => new Connection(stream, dialect, handler, identities),
    (error: unknown) => {
      const refusal = error instanceof StreamRefused ? error : new StreamRefused(status.INTERNAL, "internal error");
      stream.emit("error", { code: refusal.code, details: refusal.message });
      if (!(error instanceof StreamRefused)) throw error;
    },
  );
}

export interface DiscoveryService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** What a grpc-js Server takes: `server.addService(service.definition, service.implementation)`. Without `authenticate` anybody may call. */
export function adsService(handler: AdsHandler, authenticate?: AuthenticateStream): DiscoveryService {
  return discoveryService("envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources", handler, authenticate);
}

/** Secrets by a service of their own, as an agent serves them to the proxy beside it. */
export function secretService(handler: AdsHandler): DiscoveryService {
  return discoveryService("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", handler, undefined);
}

function discoveryService(
  service: string,
  resources: string,
  handler: AdsHandler,
  authenticate: AuthenticateStream | undefined,
): DiscoveryService {
  return {
    definition: definitionOf(service, resources),
    implementation: {
      [`Stream${resources}`]: (stream: ServerDuplexStream<DiscoveryRequest, Buffer>) => open(stream, sotw, handler, authenticate),
      [`Delta${resources}`]: (stream: ServerDuplexStream<DeltaDiscoveryRequest, Buffer>) => open(stream, delta, handler, authenticate),
    },
  };
}
