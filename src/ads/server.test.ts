/** The server over real gRPC, with a handler whose resources the tests change. */
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Client, type ClientDuplexStream, credentials, Server, ServerCredentials, type StatusObject, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { Turns } from "../lib/turns.ts";
import { type EncodedResource, encodeResource } from "./resource.ts";
import { type AdsConnection, type AdsHandler, adsService, StreamRefused } from "./server.ts";

const { cds, eds } = typeUrls;

/** Resources by type and name; their content is a string. */
class TestHandler implements AdsHandler {
  readonly resources = new Map<string, Map<string, string>>();
  readonly connections: AdsConnection[] = [];
  readonly nacks: string[] = [];
  closed = 0;
  refuses: StreamRefused | undefined;
  declare turns?: Turns;

  set(typeUrl: string, name: string, content: string | undefined): void {
    const byName = this.resources.get(typeUrl) ?? new Map<string, string>();
    if (content === undefined) byName.delete(name);
    else byName.set(name, content);
    this.resources.set(typeUrl, byName);
  }

  onConnect(_: unknown, connection: AdsConnection) {
    if (this.refuses) throw this.refuses;
    this.connections.push(connection);
    return {
      generate: (watch: { typeUrl: string; isWildcard: boolean; names: ReadonlySet<string> }, names: ReadonlySet<string> | undefined) => {
        const all = this.resources.get(watch.typeUrl);
        if (!all) return undefined;
        const wanted = [...all].filter(([name]) => (names ? names.has(name) : watch.isWildcard || watch.names.has(name)));
        return wanted.map(
          ([name, value]): EncodedResource => encodeResource(name, StringValueSchema, create(StringValueSchema, { value })),
        );
      },
      version: () => "v",
      onNack: (_type: string, message: string) => void this.nacks.push(message),
      onAck: () => {},
      onStale: () => {},
      onSent: () => {},
      onClosed: () => void this.closed++,
    };
  }
}

/** A client's stream with a queue of what came. */
class Stream<Request, Response> {
  readonly received: Response[] = [];
  status: StatusObject | undefined;
  #waiting: (() => void) | undefined;
  readonly call: ClientDuplexStream<Request, Response>;

  constructor(call: ClientDuplexStream<Request, Response>) {
    this.call = call;
    call.on("data", (response: Response) => {
      this.received.push(response);
      this.#waiting?.();
    });
    call.on("error", () => {});
    call.on("status", (status: StatusObject) => {
      this.status = status;
      this.#waiting?.();
    });
  }

  async next(): Promise<Response> {
    while (this.received.length === 0) {
      if (this.status) throw new Error(`stream ended: ${this.status.code} ${this.status.details}`);
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    return this.received.shift()!;
  }
}

const base = "/envoy.service.discovery.v3.AggregatedDiscoveryService";
let handler: TestHandler;
let server: Server;
let client: Client;

beforeEach(async () => {
  handler = new TestHandler();
  server = new Server();
  const { definition, implementation } = adsService(handler);
  server.addService(definition, implementation);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterEach(() => {
  client.close();
  server.forceShutdown();
});

function openSotw() {
  return new Stream<DiscoveryRequest, DiscoveryResponse>(
    client.makeBidiStreamRequest(
      `${base}/StreamAggregatedResources`,
      (value: DiscoveryRequest) => Buffer.from(toBinary(DiscoveryRequestSchema, value)),
      (bytes: Buffer) => fromBinary(DiscoveryResponseSchema, bytes),
    ),
  );
}

function openDelta() {
  return new Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(
    client.makeBidiStreamRequest(
      `${base}/DeltaAggregatedResources`,
      (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
      (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
    ),
  );
}

const sotwRequest = (typeUrl: string, resourceNames: string[] = [], responseNonce = "") =>
  create(DiscoveryRequestSchema, { typeUrl, resourceNames, responseNonce });
const deltaRequest = (
  typeUrl: string,
  init: { subscribe?: string[]; nonce?: string; versions?: Record<string, string>; error?: string } = {},
) =>
  create(DeltaDiscoveryRequestSchema, {
    typeUrl,
    resourceNamesSubscribe: init.subscribe ?? [],
    responseNonce: init.nonce ?? "",
    initialResourceVersions: init.versions ?? {},
    ...(init.error ? { errorDetail: { code: 13, message: init.error } } : {}),
  });

const contents = (response: DiscoveryResponse) => response.resources.map((any) => fromBinary(StringValueSchema, any.value).value);
const names = (response: DeltaDiscoveryResponse) => response.resources.map((resource) => resource.name);

describe("AdsServer", () => {
  it("answers in the handler's own turns, where it has some", async () => {
    let isUrgent = true;
    handler.turns = new Turns(5, { while: () => isUrgent, maxMs: 60_000 });
    handler.set(cds, "a", "1");
    const stream = openSotw();
    stream.call.write(sotwRequest(cds));
    await expect.poll(() => handler.connections.length).toBe(1);
    await delay(20);
    expect(stream.received).toEqual([]);
    isUrgent = false;
    expect(contents(await stream.next())).toEqual(["1"]);
  });

  it("sends the whole set of a wildcard type when any of it changed, and nothing when none did", async () => {
    handler.set(cds, "a", "1");
    handler.set(cds, "b", "1");
    const stream = openSotw();
    stream.call.write(sotwRequest(cds));
    const first = await stream.next();
    expect(contents(first)).toEqual(["1", "1"]);
    handler.connections[0]!.push({});
    handler.set(cds, "b", "2");
    handler.connections[0]!.push({});
    expect(contents(await stream.next())).toEqual(["1", "2"]);
    handler.set(cds, "a", undefined);
    handler.connections[0]!.push({});
    expect(contents(await stream.next())).toEqual(["2"]);
    handler.set(cds, "b", undefined);
    handler.connections[0]!.push({});
    expect(contents(await stream.next())).toEqual([]); // The last one is gone, too: only an empty set can say so.
    handler.connections[0]!.push({});
    handler.set(cds, "a", "3");
    handler.connections[0]!.push({});
    expect(contents(await stream.next())).toEqual(["3"]);
    expect(stream.received).toEqual([]);
  });

  it("answers names of a wildcard type that don't exist at once, with a set without them", async () => {
    handler.set(cds, "a", "1");
    const stream = openSotw();
    stream.call.write(sotwRequest(cds, ["nobody"]));
    const first = await stream.next();
    expect(contents(first)).toEqual([]);
    stream.call.write(sotwRequest(cds, ["nobody", "a"], first.nonce));
    expect(contents(await stream.next())).toEqual(["1"]);
  });

  it("sends only the changed names of a named type", async () => {
    for (const name of ["a", "b"]) handler.set(eds, name, "1");
    const stream = openSotw();
    stream.call.write(sotwRequest(eds, ["a", "b"]));
    await stream.next();
    handler.set(eds, "b", "2");
    handler.connections[0]!.push({});
    expect(contents(await stream.next())).toEqual(["2"]);
  });

  it("sends changes and removals on a delta stream", async () => {
    handler.set(cds, "a", "1");
    handler.set(cds, "b", "1");
    const stream = openDelta();
    stream.call.write(deltaRequest(cds));
    expect(names(await stream.next())).toEqual(["a", "b"]);
    handler.set(cds, "a", "2");
    handler.set(cds, "b", undefined);
    handler.connections[0]!.push({});
    const next = await stream.next();
    expect(names(next)).toEqual(["a"]);
    expect(next.removedResources).toEqual(["b"]);
  });

  it("does not repeat to a client that comes back what it has, and tells it what is gone", async () => {
    handler.set(cds, "a", "1");
    handler.set(cds, "c", "1");
    const version = encodeResource("a", StringValueSchema, create(StringValueSchema, { value: "1" })).version;
    const stream = openDelta();
    stream.call.write(deltaRequest(cds, { versions: { a: version, b: "old" } }));
    const answer = await stream.next();
    expect(names(answer)).toEqual(["c"]);
    expect(answer.removedResources).toEqual(["b"]);
  });

  it("sends the endpoints of a cluster again when the cluster changed, since it warms", async () => {
    handler.set(cds, "a", "1");
    handler.set(eds, "a", "endpoints");
    const stream = openDelta();
    stream.call.write(deltaRequest(cds));
    await stream.next();
    stream.call.write(deltaRequest(eds, { subscribe: ["a"] }));
    await stream.next();
    handler.set(cds, "a", "2");
    handler.connections[0]!.push({ typeUrls: new Set([cds]) });
    expect((await stream.next()).typeUrl).toBe(cds);
    const again = await stream.next();
    expect(again.typeUrl).toBe(eds);
    expect(names(again)).toEqual(["a"]);
    expect(again.removedResources).toEqual([]);
  });

  it("hears the names in a request that echoes an answer which is no longer the newest, and in one that refuses", async () => {
    for (const name of ["a", "b", "c"]) handler.set(eds, name, `endpoints of ${name}`);
    const stream = openDelta();
    stream.call.write(deltaRequest(eds, { subscribe: ["a"] }));
    const first = await stream.next();
    handler.set(eds, "a", "other endpoints");
    handler.connections[0]!.push({});
    await stream.next();
    stream.call.write(deltaRequest(eds, { subscribe: ["b"], nonce: first.nonce }));
    const second = await stream.next();
    expect(names(second)).toEqual(["b"]);
    stream.call.write(deltaRequest(eds, { subscribe: ["c"], nonce: second.nonce, error: "bad endpoint" }));
    expect(names(await stream.next())).toEqual(["c"]);
    expect(handler.nacks).toEqual(["bad endpoint"]);
  });

  it("tells a delta client that a name it asked for does not exist", async () => {
    handler.set(eds, "a", "1");
    const stream = openDelta();
    stream.call.write(deltaRequest(eds, { subscribe: ["a", "nobody"] }));
    const answer = await stream.next();
    expect(names(answer)).toEqual(["a"]);
    expect(answer.removedResources).toEqual(["nobody"]);
  });

  it("never answers a NACK", async () => {
    handler.set(cds, "a", "1");
    const stream = openDelta();
    stream.call.write(deltaRequest(cds));
    const { nonce } = await stream.next();
    stream.call.write(deltaRequest(cds, { nonce, error: "no such filter" }));
    handler.set(eds, "x", "1");
    stream.call.write(deltaRequest(eds, { subscribe: ["x"] }));
    expect((await stream.next()).typeUrl).toBe(eds);
    expect(handler.nacks).toEqual(["no such filter"]);
  });

  it("leaves a type that nobody serves unanswered, and the stream open", async () => {
    handler.set(cds, "a", "1");
    const stream = openDelta();
    stream.call.write(deltaRequest("type.googleapis.com/no.such.Type", { subscribe: ["x"] }));
    stream.call.write(deltaRequest(cds));
    expect((await stream.next()).typeUrl).toBe(cds);
  });

  it("ends a stream that the handler refuses with its status", async () => {
    handler.refuses = new StreamRefused(status.UNAVAILABLE, "not yet");
    const stream = openDelta();
    stream.call.write(deltaRequest(cds));
    await expect(stream.next()).rejects.toThrow("not yet");
    expect(stream.status?.code).toBe(status.UNAVAILABLE);
  });

  it("melts the pushes for a client that does not read into one", async () => {
    const large = "x".repeat(256 * 1024);
    handler.set(cds, "a", large);
    const stream = openSotw();
    stream.call.write(sotwRequest(cds));
    await stream.next();
    stream.call.pause();
    const before = process.memoryUsage.rss();
    for (let round = 0; round < 2000; round++) {
      handler.set(cds, "a", `${round}${large}`);
      handler.connections[0]!.push({});
      if (round % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    // 2000 rounds are 500 MB; a queue of them would show.
    expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
    stream.call.resume();
    let last = "";
    while (!last.startsWith("1999x")) last = contents(await stream.next())[0]!;
  });

  it("stops listening to a client that asks and does not read", async () => {
    handler.set(eds, "a", "x".repeat(256 * 1024));
    const stream = openDelta();
    stream.call.pause();
    const before = process.memoryUsage.rss();
    for (let round = 0; round < 4000; round++) {
      stream.call.write(deltaRequest(eds, { subscribe: ["a"] }));
      if (round % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    // 4000 answers are 1 GB.
    expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
    stream.call.resume();
    expect(names(await stream.next())).toEqual(["a"]);
  });

  it("forgets a client that goes away", async () => {
    handler.set(cds, "a", "1");
    const stream = openDelta();
    stream.call.write(deltaRequest(cds));
    await stream.next();
    stream.call.cancel();
    await expect.poll(() => handler.closed).toBe(1);
  });
});
