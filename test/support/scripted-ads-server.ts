/**
 * A control plane that says what the test tells it to: an ADS server without a mind of its own, state of the world and delta.
 *
 *     const server = await startScriptedAdsServer();
 *     const stream = await server.nextStream();        // a client has connected
 *     const request = await stream.next(typeUrls.cds); // its next request of that type
 *     stream.respond(typeUrls.cds, "v1", [cluster]);   // nonces count up by themselves
 */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
  ResourceSchema,
} from "../../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";

export type AdsRequest = DiscoveryRequest | DeltaDiscoveryRequest;

export function pack<S extends DescMessage>(schema: S, message: MessageShape<S>): Any {
  return create(AnySchema, { typeUrl: `type.googleapis.com/${schema.typeName}`, value: toBinary(schema, message) });
}

export interface NamedAny {
  readonly name: string;
  readonly version?: string;
  readonly content: Any;
}

/** One stream of one client. */
export class ScriptedStream {
  readonly isDelta: boolean;
  readonly metadata: Record<string, unknown>;
  readonly requests: AdsRequest[] = [];
  /** Resolves when the client is gone. */
  readonly closed: Promise<void>;
  #call: ServerDuplexStream<Buffer, Buffer>;
  #unread: AdsRequest[] = [];
  #waiting: { readonly typeUrl: string; readonly resolve: (request: AdsRequest) => void }[] = [];
  #nonce = 0;

  constructor(call: ServerDuplexStream<Buffer, Buffer>, isDelta: boolean) {
    this.#call = call;
    this.isDelta = isDelta;
    this.metadata = call.metadata.getMap();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    call.on("data", (bytes: Buffer) => {
      const request = isDelta ? fromBinary(DeltaDiscoveryRequestSchema, bytes) : fromBinary(DiscoveryRequestSchema, bytes);
      this.requests.push(request);
      const index = this.#waiting.findIndex(({ typeUrl }) => typeUrl === request.typeUrl);
      if (index >= 0) this.#waiting.splice(index, 1)[0]!.resolve(request);
      else this.#unread.push(request);
    });
    call.on("cancelled", () => resolve());
    call.on("end", () => resolve());
    call.on("error", () => resolve());
  }

  /** The next request of a type that was not read yet. */
  next(typeUrl: string): Promise<DiscoveryRequest> {
    return this.#next(typeUrl) as Promise<DiscoveryRequest>;
  }

  nextDelta(typeUrl: string): Promise<DeltaDiscoveryRequest> {
    return this.#next(typeUrl) as Promise<DeltaDiscoveryRequest>;
  }

  /** Requests that came and were not read, of a type. */
  unread(typeUrl: string): number {
    return this.#unread.filter((request) => request.typeUrl === typeUrl).length;
  }

  /** Sends a whole state; returns its nonce. */
  respond(typeUrl: string, version: string, resources: readonly Any[]): string {
    const nonce = `nonce-${++this.#nonce}`;
    this.#call.write(
      Buffer.from(
        toBinary(
          DiscoveryResponseSchema,
          create(DiscoveryResponseSchema, { typeUrl, versionInfo: version, nonce, resources: [...resources] }),
        ),
      ),
    );
    return nonce;
  }

  respondDelta(typeUrl: string, version: string, resources: readonly NamedAny[], removed: readonly string[] = []): string {
    const nonce = `nonce-${++this.#nonce}`;
    const message = create(DeltaDiscoveryResponseSchema, {
      typeUrl,
      systemVersionInfo: version,
      nonce,
      resources: resources.map(({ name, content, version: own }) =>
        create(ResourceSchema, { name, version: own ?? version, resource: content }),
      ),
      removedResources: [...removed],
    });
    this.#call.write(Buffer.from(toBinary(DeltaDiscoveryResponseSchema, message)));
    return nonce;
  }

  /** Encodes an answer with everything in it, of the version of the first, and gives what sends it: for whoever looks at the clock. */
  prepare(typeUrl: string, resources: readonly NamedAny[]): { readonly nonce: string; readonly send: () => void } {
    const nonce = `nonce-${++this.#nonce}`;
    const version = resources[0]?.version ?? "";
    const bytes = this.isDelta
      ? toBinary(
          DeltaDiscoveryResponseSchema,
          create(DeltaDiscoveryResponseSchema, {
            typeUrl,
            systemVersionInfo: version,
            nonce,
            resources: resources.map(({ name, content, version: own }) =>
              create(ResourceSchema, { name, version: own!, resource: content }),
            ),
          }),
        )
      : toBinary(
          DiscoveryResponseSchema,
          create(DiscoveryResponseSchema, { typeUrl, versionInfo: version, nonce, resources: resources.map(({ content }) => content) }),
        );
    return { nonce, send: () => void this.#call.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)) };
  }

  /** Bytes that are no message. */
  sendGarbage(bytes: Uint8Array): void {
    this.#call.write(Buffer.from(bytes));
  }

  /** Ends the stream as a server that goes away does. */
  end(): void {
    this.#call.end();
  }

  #next(typeUrl: string): Promise<AdsRequest> {
    const index = this.#unread.findIndex((request) => request.typeUrl === typeUrl);
    if (index >= 0) return Promise.resolve(this.#unread.splice(index, 1)[0]!);
    return new Promise((resolve) => this.#waiting.push({ typeUrl, resolve }));
  }
}

export interface ScriptedAdsServer extends AsyncDisposable {
  readonly port: number;
  readonly streams: readonly ScriptedStream[];
  /** The next stream that was not handed out yet. */
  nextStream(): Promise<ScriptedStream>;
}

/** `address`: where to listen, by default a free port of loopback; `unix:/path` for a socket. */
export async function startScriptedAdsServer(address = "127.0.0.1:0"): Promise<ScriptedAdsServer> {
  const streams: ScriptedStream[] = [];
  const unread: ScriptedStream[] = [];
  const waiting: ((stream: ScriptedStream) => void)[] = [];
  const server = new Server();
  const method = (path: string) => ({
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  });
  const accept = (isDelta: boolean) => (call: ServerDuplexStream<Buffer, Buffer>) => {
    const stream = new ScriptedStream(call, isDelta);
    streams.push(stream);
    const resolve = waiting.shift();
    if (resolve) resolve(stream);
    else unread.push(stream);
  };
  const addService = (service: string, verb: string) =>
    server.addService(
      { full: method(`/${service}/Stream${verb}`), delta: method(`/${service}/Delta${verb}`) },
      { full: accept(false), delta: accept(true) },
    );
  addService("envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources");
  addService("envoy.service.secret.v3.SecretDiscoveryService", "Secrets");
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return {
    port,
    streams,
    nextStream() {
      const stream = unread.shift();
      return stream ? Promise.resolve(stream) : new Promise((resolve) => waiting.push(resolve));
    },
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
    },
  };
}
