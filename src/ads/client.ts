/**
 * The client side of xDS: one gRPC stream, any number of resource types on it, state of the world or delta.
 *
 *     subscription per type  --wanted names-->   [request queue]  --stream-->  server
 *     handler per type       <--resources----    [response queue per type]  <--
 *
 * - The stream is opened when something is wanted and kept; when it ends it is opened again after a jittered,
 *   exponentially growing pause, and everything wanted is asked for again with the versions that are held.
 * - A response goes to its type's handler, one at a time and in order; what the handler returns is the ACK or the NACK.
 * - A type can be paused (Envoy does that to CDS while clusters warm): its requests wait, its responses don't.
 * - What is held is never dropped because the server is away.
 *
 * Nothing here knows what a resource means.
 */
import { create } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Node } from "../api/gen/envoy/config/core/v3/base_pb.js";
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  ResourceSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { StatusSchema } from "../api/gen/google/rpc/status_pb.js";
import type { LogScope } from "../lib/log.ts";
import { type OpenXdsStream, type XdsStream, xdsStreamEnd } from "./client-stream.ts";

export interface XdsResource {
  /** Known in delta and where the server wraps resources; otherwise "" and only the content tells. */
  readonly name: string;
  readonly version: string;
  readonly content: Any;
}

export interface XdsUpdate {
  readonly resources: readonly XdsResource[];
  /** Delta only. */
  readonly removed: readonly string[];
  /** SotW: the response's version. Delta: system_version_info. */
  readonly version: string;
  /** State of the world: of a wildcard type, what is absent is gone. */
  readonly isFull: boolean;
}

/** Takes an update in; resolves to the reason for a NACK, or undefined for an ACK. */
export type XdsHandler = (update: XdsUpdate) => Promise<string | undefined>;

export interface XdsClientOptions {
  readonly open: OpenXdsStream;
  readonly isDelta: boolean;
  readonly node: Node;
  /** Default false: the node in every first request of a type. */
  readonly nodeOnFirstMessageOnly?: boolean;
  readonly log: LogScope;
  /** Reconnect pauses: uniform in [0, base * 2^n), at most max. Envoy's defaults 500 ms and 30 s. */
  readonly backoffBaseMs?: number;
  readonly backoffMaxMs?: number;
  readonly random?: () => number;
  readonly onConnected?: (connected: boolean) => void;
  readonly onControlPlane?: (identifier: string) => void;
  /** Called for every type that the stream carried when it ends. */
  readonly onStreamEnd?: (typeUrl: string) => void;
}

export interface XdsSubscription {
  /** Replaces the names that are wanted. Of a wildcard type nothing needs to be said. */
  setNames(names: Iterable<string>): void;
  /** Asks again for what is wanted, although it did not change: the server must answer (state of the world only). */
  refresh(): void;
  /** Holds requests, ACKs included, back; pauses nest. */
  pause(): void;
  resume(): void;
  close(): void;
}

interface TypeState {
  readonly typeUrl: string;
  readonly isWildcard: boolean;
  readonly handler: XdsHandler;
  names: ReadonlySet<string>;
  /** What the server has been told on this stream (delta). */
  announced: ReadonlySet<string>;
  /** Versions that were accepted: one for the type (SotW), or by resource (delta). */
  version: string;
  readonly versions: Map<string, string>;
  nonce: string;
  isFirstOnStream: boolean;
  pauses: number;
  isRequestWanted: boolean;
  /** An ACK or NACK that waits to be sent. */
  answer: { readonly nonce: string; readonly error: string | undefined } | undefined;
  work: Promise<void>;
  isClosed: boolean;
}

/** A control plane that sends garbage faster than it can be handled must not fill the memory. */
const maxQueuedResponses = 64;

export class XdsClient implements AsyncDisposable {
  #options: XdsClientOptions;
  #types = new Map<string, TypeState>();
  #stream: XdsStream | undefined;
  #generation = 0;
  #failures = 0;
  #retryTimer: NodeJS.Timeout | undefined;
  #isNodeSent = false;
  #isFlushScheduled = false;
  #isClosed = false;
  #isConnected = false;
  #queuedResponses = 0;

  constructor(options: XdsClientOptions) {
    this.#options = options;
  }

  subscribe(typeUrl: string, isWildcard: boolean, handler: XdsHandler): XdsSubscription {
    if (this.#types.has(typeUrl)) throw new Error(`${typeUrl} is subscribed already`);
    const state: TypeState = {
      typeUrl,
      isWildcard,
      handler,
      names: new Set(),
      announced: new Set(),
      version: "",
      versions: new Map(),
      nonce: "",
      isFirstOnStream: true,
      pauses: 0,
      isRequestWanted: isWildcard,
      answer: undefined,
      work: Promise.resolve(),
      isClosed: false,
    };
    this.#types.set(typeUrl, state);
    if (isWildcard) this.#schedule();
    return {
      setNames: (names) => {
        const wanted = new Set(names);
        if (wanted.size === state.names.size && [...wanted].every((name) => state.names.has(name))) return;
        for (const name of state.names) if (!wanted.has(name)) state.versions.delete(name);
        state.names = wanted;
        state.isRequestWanted = true;
        this.#schedule();
      },
      refresh: () => {
        if (this.#options.isDelta) return;
        state.isRequestWanted = true;
        this.#schedule();
      },
      pause: () => {
        state.pauses++;
      },
      resume: () => {
        state.pauses--;
        if (state.pauses === 0) this.#schedule();
      },
      close: () => {
        state.isClosed = true;
        this.#types.delete(typeUrl);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    this.#generation++;
    this.#stream?.cancel();
    this.#setConnected(false);
    await Promise.all([...this.#types.values()].map((state) => state.work));
  }

  /** Requests of one turn of the event loop go out together. */
  #schedule(): void {
    if (this.#isFlushScheduled || this.#isClosed) return;
    this.#isFlushScheduled = true;
    setImmediate(() => {
      this.#isFlushScheduled = false;
      if (!this.#isClosed) this.#flush();
    });
  }

  #flush(): void {
    if (!this.#stream) {
      if (this.#retryTimer === undefined && this.#hasWork()) this.#open();
      return;
    }
    for (const state of this.#types.values()) {
      if (state.pauses > 0) continue;
      if (this.#options.isDelta) this.#sendDelta(state);
      else this.#sendFull(state);
    }
  }

  #hasWork(): boolean {
    return [...this.#types.values()].some((state) => state.isWildcard || state.names.size > 0);
  }

  #open(): void {
    const generation = ++this.#generation;
    this.#isNodeSent = false;
    for (const state of this.#types.values()) {
      state.nonce = "";
      state.answer = undefined;
      state.announced = new Set();
      state.isFirstOnStream = true;
      state.isRequestWanted = state.isWildcard || state.names.size > 0;
    }
    const current = () => generation === this.#generation;
    let stream: XdsStream;
    try {
      stream = this.#options.open({
        onResponse: (response) => {
          if (current()) this.#receive(response);
        },
        onEnd: (error) => {
          if (current()) this.#ended(error);
        },
      });
    } catch (error) {
      this.#ended(error as Error);
      return;
    }
    // A stream may end while it is being opened.
    if (!current()) return;
    this.#stream = stream;
    this.#flush();
  }

  #ended(error: Error | undefined): void {
    this.#generation++;
    this.#stream = undefined;
    this.#setConnected(false);
    for (const state of this.#types.values()) this.#options.onStreamEnd?.(state.typeUrl);
    if (this.#isClosed) return;
    const { backoffBaseMs = 500, backoffMaxMs = 30_000, random = Math.random } = this.#options;
    const bound = Math.min(backoffBaseMs * 2 ** Math.min(this.#failures, 30), backoffMaxMs);
    const pauseMs = Math.floor(random() * bound);
    this.#failures++;
    this.#options.log.warn("xDS stream ended", { reason: xdsStreamEnd(error), retryInMs: pauseMs });
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      if (!this.#isClosed && this.#hasWork()) this.#open();
    }, pauseMs);
  }

  #setConnected(connected: boolean): void {
    if (this.#isConnected === connected) return;
    this.#isConnected = connected;
    this.#options.onConnected?.(connected);
  }

  #receive(response: DiscoveryResponse | DeltaDiscoveryResponse): void {
    this.#failures = 0;
    this.#setConnected(true);
    if (response.controlPlane) this.#options.onControlPlane?.(response.controlPlane.identifier);
    const state = this.#types.get(response.typeUrl);
    if (!state) {
      this.#options.log.warn("Ignoring a response of a type that nobody asked for", { typeUrl: response.typeUrl });
      return;
    }
    if (this.#queuedResponses >= maxQueuedResponses) {
      this.#options.log.warn("The control plane sends faster than its updates can be taken in: starting the stream again");
      const stream = this.#stream;
      this.#ended(new Error("too many responses are waiting"));
      stream?.cancel();
      return;
    }
    const generation = this.#generation;
    this.#queuedResponses++;
    state.work = state.work.then(async () => {
      try {
        if (!state.isClosed) await this.#handle(state, response, generation);
      } finally {
        this.#queuedResponses--;
      }
    });
  }

  async #handle(state: TypeState, response: DiscoveryResponse | DeltaDiscoveryResponse, generation: number): Promise<void> {
    const update = "removedResources" in response ? deltaUpdate(response) : fullUpdate(response);
    let error: string | undefined;
    try {
      const stray = update.resources.find(({ content }) => content.typeUrl !== state.typeUrl);
      error = stray
        ? `type URL ${stray.content.typeUrl} embedded in an individual Any does not match the message-wide type URL ${state.typeUrl} in DiscoveryResponse`
        : await state.handler(update);
    } catch (cause) {
      error = (cause as Error).message;
    }
    if (error === undefined) {
      state.version = update.version;
      if (!update.isFull) {
        for (const { name, version } of update.resources) state.versions.set(name, version);
        for (const name of update.removed) state.versions.delete(name);
      }
    } else {
      this.#options.log.warn("Rejected an xDS update", { typeUrl: state.typeUrl, version: update.version, reason: error });
    }
    if (generation !== this.#generation) return; // its stream is gone, and the nonce with it
    state.nonce = response.nonce;
    state.answer = { nonce: response.nonce, error };
    this.#schedule();
  }

  #sendFull(state: TypeState): void {
    if (!state.answer && !state.isRequestWanted) return;
    if (!state.isWildcard && state.names.size === 0 && state.isFirstOnStream) return;
    const error = state.answer?.error;
    this.#send(
      state,
      create(DiscoveryRequestSchema, {
        versionInfo: state.version,
        resourceNames: [...state.names].sort(),
        typeUrl: state.typeUrl,
        responseNonce: state.nonce,
        ...this.#nodeFor(state),
        ...(error !== undefined && { errorDetail: create(StatusSchema, { code: 13, message: error }) }),
      }),
    );
  }

  #sendDelta(state: TypeState): void {
    // Most of what is sent is an ACK, and there may be ten thousand names.
    const isTold = state.announced === state.names;
    const subscribe = isTold ? [] : [...state.names].filter((name) => !state.announced.has(name)).sort();
    const unsubscribe = isTold ? [] : [...state.announced].filter((name) => !state.names.has(name)).sort();
    const isInitial = state.isFirstOnStream && (state.isWildcard || subscribe.length > 0);
    if (!state.answer && !isInitial && subscribe.length === 0 && unsubscribe.length === 0) return;
    const error = state.answer?.error;
    this.#send(
      state,
      create(DeltaDiscoveryRequestSchema, {
        typeUrl: state.typeUrl,
        resourceNamesSubscribe: subscribe,
        resourceNamesUnsubscribe: unsubscribe,
        responseNonce: state.answer?.nonce ?? "",
        ...this.#nodeFor(state),
        ...(isInitial && { initialResourceVersions: Object.fromEntries(state.versions) }),
        ...(error !== undefined && { errorDetail: create(StatusSchema, { code: 13, message: error }) }),
      }),
    );
    state.announced = state.names; // replaced and never changed
  }

  #nodeFor(state: TypeState): { node?: Node } {
    const isWanted = this.#options.nodeOnFirstMessageOnly ? !this.#isNodeSent : state.isFirstOnStream;
    return isWanted ? { node: this.#options.node } : {};
  }

  #send(state: TypeState, request: Parameters<XdsStream["send"]>[0]): void {
    this.#isNodeSent = true;
    state.isFirstOnStream = false;
    state.isRequestWanted = false;
    state.answer = undefined;
    this.#stream?.send(request);
  }
}

function fullUpdate(response: DiscoveryResponse): XdsUpdate {
  const resources = response.resources.map((any): XdsResource => {
    const wrapped = anyUnpack(any, ResourceSchema);
    if (wrapped?.resource) return { name: wrapped.name, version: wrapped.version || response.versionInfo, content: wrapped.resource };
    return { name: "", version: response.versionInfo, content: any };
  });
  return { resources, removed: [], version: response.versionInfo, isFull: true };
}

function deltaUpdate(response: DeltaDiscoveryResponse): XdsUpdate {
  const resources: XdsResource[] = [];
  const removed = [...response.removedResources];
  for (const { name, version, resource } of response.resources) {
    if (resource) resources.push({ name, version, content: resource });
    else removed.push(name); // a name without content says that there is none
  }
  return { resources, removed, version: response.systemVersionInfo, isFull: false };
}
