import * as net from "node:net";
import { create } from "@bufbuild/protobuf";
import { credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { pack, type ScriptedAdsServer, startScriptedAdsServer } from "../../test/support/scripted-ads-server.ts";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { NodeSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { createLog } from "../lib/log.ts";
import { XdsClient, type XdsClientOptions, type XdsUpdate } from "./client.ts";
import { openXdsChannel } from "./client-stream.ts";

const stack: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const one of stack.splice(0)) await one.disposeAsync();
});

interface Fixture {
  readonly server: ScriptedAdsServer;
  readonly client: XdsClient;
  readonly lines: string[];
}

async function start(options: Partial<XdsClientOptions> = {}): Promise<Fixture> {
  const resources = new AsyncDisposableStack();
  stack.push(resources);
  const server = resources.use(await startScriptedAdsServer());
  const channel = resources.use(
    openXdsChannel({
      target: `ipv4:127.0.0.1:${server.port}`,
      credentials: credentials.createInsecure(),
      metadata: [{ key: "x-test", value: "yes" }],
    }),
  );
  const lines: string[] = [];
  const isDelta = options.isDelta ?? false;
  const client = resources.use(
    new XdsClient({
      open: channel.stream(
        `/envoy.service.discovery.v3.AggregatedDiscoveryService/${isDelta ? "Delta" : "Stream"}AggregatedResources`,
        isDelta,
      ),
      isDelta,
      node: create(NodeSchema, { id: "router~1", cluster: "c" }),
      log: createLog({ write: (line) => void lines.push(line) }).scope("xds"),
      backoffBaseMs: 10,
      random: () => 0.5,
      ...options,
    }),
  );
  return { server, client, lines };
}

const cluster = (name: string) => pack(ClusterSchema, create(ClusterSchema, { name }));

describe("XdsClient, state of the world", () => {
  it("asks with node and metadata, and acknowledges with version and nonce", async () => {
    const { server, client } = await start();
    const updates: XdsUpdate[] = [];
    client.subscribe(typeUrls.cds, true, async (update) => {
      updates.push(update);
      return undefined;
    });
    const stream = await server.nextStream();
    const first = await stream.next(typeUrls.cds);
    expect(stream.metadata["x-test"]).toBe("yes");
    expect(first).toMatchObject({ node: { id: "router~1" }, versionInfo: "", responseNonce: "", resourceNames: [] });
    const nonce = stream.respond(typeUrls.cds, "v1", [cluster("a")]);
    expect(await stream.next(typeUrls.cds)).toMatchObject({ versionInfo: "v1", responseNonce: nonce });
    expect(updates).toMatchObject([{ version: "v1", isFull: true, removed: [] }]);
  });

  it("rejects with the reason, the old version and the new nonce", async () => {
    const { server, client } = await start();
    let reason: string | undefined;
    client.subscribe(typeUrls.cds, true, async () => reason);
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    stream.respond(typeUrls.cds, "good", []);
    await stream.next(typeUrls.cds);
    reason = "Error adding/updating cluster(s) a: no";
    const nonce = stream.respond(typeUrls.cds, "bad", []);
    const answer = await stream.next(typeUrls.cds);
    expect(answer).toMatchObject({ versionInfo: "good", responseNonce: nonce });
    expect(answer.errorDetail?.message).toBe("Error adding/updating cluster(s) a: no");
  });

  it("rejects a response whose resources are of another type", async () => {
    const { server, client } = await start();
    client.subscribe(typeUrls.eds, false, async () => undefined).setNames(["a"]);
    const stream = await server.nextStream();
    await stream.next(typeUrls.eds);
    stream.respond(typeUrls.eds, "v1", [cluster("a")]);
    expect((await stream.next(typeUrls.eds)).errorDetail?.message).toMatch(/does not match the message-wide type URL/);
  });

  it("ignores a response of a type that nobody asked for", async () => {
    const { server, client, lines } = await start();
    client.subscribe(typeUrls.cds, true, async () => undefined);
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    stream.respond("type.googleapis.com/no.such.Type", "v1", []);
    stream.respond(typeUrls.cds, "v1", []);
    await stream.next(typeUrls.cds);
    expect(stream.requests.map(({ typeUrl }) => typeUrl)).toEqual([typeUrls.cds, typeUrls.cds]);
    expect(lines.join("")).toContain("no.such.Type");
  });

  it("sends nothing for a type without names until one is wanted, and all names of a turn at once", async () => {
    const { server, client } = await start();
    client.subscribe(typeUrls.cds, true, async () => undefined);
    const endpoints = client.subscribe(typeUrls.eds, false, async () => undefined);
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    expect(stream.unread(typeUrls.eds)).toBe(0);
    endpoints.setNames(["b"]);
    endpoints.setNames(["b", "a"]);
    expect(await stream.next(typeUrls.eds)).toMatchObject({ resourceNames: ["a", "b"], versionInfo: "", responseNonce: "" });
    endpoints.setNames(["a"]);
    expect(await stream.next(typeUrls.eds)).toMatchObject({ resourceNames: ["a"] });
  });

  it("holds acknowledgements back while a type is paused, and then sends the last one", async () => {
    const { server, client } = await start();
    const handled = Promise.withResolvers<void>();
    const subscription = client.subscribe(typeUrls.cds, true, async ({ version }) => {
      if (version === "v2") handled.resolve();
      return undefined;
    });
    const stream = await server.nextStream();
    await stream.next(typeUrls.cds);
    subscription.pause();
    stream.respond(typeUrls.cds, "v1", []);
    const nonce = stream.respond(typeUrls.cds, "v2", []);
    await handled.promise;
    expect(stream.unread(typeUrls.cds)).toBe(0);
    subscription.resume();
    expect(await stream.next(typeUrls.cds)).toMatchObject({ versionInfo: "v2", responseNonce: nonce });
    expect(stream.requests).toHaveLength(2);
  });

  it("connects again when the server ends the stream, with the version that it holds", async () => {
    const states: boolean[] = [];
    const { server, client } = await start({ onConnected: (connected) => void states.push(connected) });
    client.subscribe(typeUrls.cds, true, async () => undefined);
    const first = await server.nextStream();
    await first.next(typeUrls.cds);
    first.respond(typeUrls.cds, "v1", []);
    await first.next(typeUrls.cds);
    first.end();
    const second = await server.nextStream();
    expect(await second.next(typeUrls.cds)).toMatchObject({ versionInfo: "v1", responseNonce: "", node: { id: "router~1" } });
    expect(states).toEqual([true, false]);
  });

  it("starts again when the server sends bytes that are no message", async () => {
    const { server, client, lines } = await start();
    client.subscribe(typeUrls.cds, true, async () => undefined);
    const first = await server.nextStream();
    await first.next(typeUrls.cds);
    first.sendGarbage(new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff]));
    const second = await server.nextStream();
    expect(await second.next(typeUrls.cds)).toMatchObject({ versionInfo: "" });
    expect(lines.join("")).toContain("xDS stream ended");
  });

  it("does not mix the nonce of an old stream into a new one", async () => {
    const { server, client } = await start();
    const handling = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    client.subscribe(typeUrls.cds, true, async ({ version }) => {
      if (version === "slow") {
        handling.resolve();
        await release.promise;
      }
      return undefined;
    });
    const first = await server.nextStream();
    await first.next(typeUrls.cds);
    first.respond(typeUrls.cds, "slow", []);
    await handling.promise;
    first.end();
    const second = await server.nextStream();
    expect(await second.next(typeUrls.cds)).toMatchObject({ responseNonce: "" });
    release.resolve();
    const nonce = second.respond(typeUrls.cds, "v2", []);
    expect(await second.next(typeUrls.cds)).toMatchObject({ versionInfo: "v2", responseNonce: nonce });
  });

  it("tells the node once per stream when asked to", async () => {
    const { server, client } = await start({ nodeOnFirstMessageOnly: true });
    client.subscribe(typeUrls.cds, true, async () => undefined);
    client.subscribe(typeUrls.lds, true, async () => undefined);
    const stream = await server.nextStream();
    const [clusters, listeners] = [await stream.next(typeUrls.cds), await stream.next(typeUrls.lds)];
    expect([clusters.node?.id, listeners.node?.id]).toEqual(["router~1", undefined]);
  });
});

describe("XdsClient, delta", () => {
  const named = (name: string, version: string) => ({ name, version, content: cluster(name) });

  it("subscribes and unsubscribes by difference", async () => {
    const { server, client } = await start({ isDelta: true });
    const endpoints = client.subscribe(typeUrls.eds, false, async () => undefined);
    endpoints.setNames(["a", "b"]);
    const stream = await server.nextStream();
    expect(await stream.nextDelta(typeUrls.eds)).toMatchObject({ resourceNamesSubscribe: ["a", "b"], resourceNamesUnsubscribe: [] });
    endpoints.setNames(["b", "c"]);
    expect(await stream.nextDelta(typeUrls.eds)).toMatchObject({ resourceNamesSubscribe: ["c"], resourceNamesUnsubscribe: ["a"] });
  });

  it("begins a wildcard type without names, and hands removals on", async () => {
    const { server, client } = await start({ isDelta: true });
    const updates: XdsUpdate[] = [];
    client.subscribe(typeUrls.cds, true, async (update) => {
      updates.push(update);
      return undefined;
    });
    const stream = await server.nextStream();
    expect(await stream.nextDelta(typeUrls.cds)).toMatchObject({ resourceNamesSubscribe: [], initialResourceVersions: {} });
    const nonce = stream.respondDelta(typeUrls.cds, "s1", [named("a", "1")], ["gone"]);
    expect(await stream.nextDelta(typeUrls.cds)).toMatchObject({ responseNonce: nonce });
    expect(updates).toMatchObject([{ isFull: false, removed: ["gone"], resources: [{ name: "a", version: "1" }] }]);
  });

  it("says on reconnecting which versions it holds, without what was removed or rejected", async () => {
    const { server, client } = await start({ isDelta: true });
    client.subscribe(typeUrls.cds, true, async ({ resources }) => (resources.some(({ name }) => name === "bad") ? "no" : undefined));
    const first = await server.nextStream();
    await first.nextDelta(typeUrls.cds);
    first.respondDelta(typeUrls.cds, "s1", [named("a", "1"), named("b", "1")]);
    await first.nextDelta(typeUrls.cds);
    first.respondDelta(typeUrls.cds, "s2", [named("a", "2")], ["b"]);
    await first.nextDelta(typeUrls.cds);
    first.respondDelta(typeUrls.cds, "s3", [named("bad", "1")]);
    expect((await first.nextDelta(typeUrls.cds)).errorDetail?.message).toBe("no");
    first.end();
    const second = await server.nextStream();
    expect(await second.nextDelta(typeUrls.cds)).toMatchObject({ initialResourceVersions: { a: "2" }, responseNonce: "" });
  });
});

describe("XdsClient over a connection that is half open", () => {
  it("finds out by pings, and connects again", async () => {
    const resources = new AsyncDisposableStack();
    stack.push(resources);
    const server = resources.use(await startScriptedAdsServer());
    let isCut = false;
    let connections = 0;
    // Between the two stands something that stops passing bytes on without closing anything, as a vanished peer does.
    const middle = net.createServer((client) => {
      const passes = ++connections > 1 ? () => true : () => !isCut;
      const upstream = net.connect(server.port, "127.0.0.1");
      client.on("data", (bytes) => void (passes() && upstream.write(bytes)));
      upstream.on("data", (bytes) => void (passes() && client.write(bytes)));
      client.on("close", () => upstream.destroy());
      for (const end of [client, upstream]) end.on("error", () => {});
    });
    await new Promise<void>((resolve) => middle.listen(0, "127.0.0.1", resolve));
    resources.defer(() => void middle.close());
    const target = `ipv4:127.0.0.1:${(middle.address() as net.AddressInfo).port}`;
    const channel = resources.use(
      openXdsChannel({ target, credentials: credentials.createInsecure(), keepaliveMs: 100, keepaliveTimeoutMs: 100 }),
    );
    const client = resources.use(
      new XdsClient({
        open: channel.stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", false),
        isDelta: false,
        node: create(NodeSchema, {}),
        log: createLog({ write() {} }).scope("xds"),
        backoffBaseMs: 10,
      }),
    );
    client.subscribe(typeUrls.cds, true, async () => undefined);
    const first = await server.nextStream();
    await first.next(typeUrls.cds);
    isCut = true;
    const second = await server.nextStream();
    await second.next(typeUrls.cds);
    expect(connections).toBe(2);
  });
});

describe("XdsClient against a server that is not there", () => {
  it("keeps trying with growing pauses", async () => {
    const resources = new AsyncDisposableStack();
    stack.push(resources);
    const pauses: number[] = [];
    const enough = Promise.withResolvers<void>();
    const channel = resources.use(openXdsChannel({ target: "ipv4:127.0.0.1:1", credentials: credentials.createInsecure() }));
    const client = resources.use(
      new XdsClient({
        open: channel.stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", false),
        isDelta: false,
        node: create(NodeSchema, {}),
        log: createLog({
          write(line) {
            const pause = /retryInMs=(\d+)/.exec(line);
            if (pause) pauses.push(Number(pause[1]));
            if (pauses.length === 5) enough.resolve();
          },
        }).scope("xds"),
        backoffBaseMs: 8,
        backoffMaxMs: 40,
        random: () => 0.999,
      }),
    );
    client.subscribe(typeUrls.cds, true, async () => undefined);
    await enough.promise;
    expect(pauses.slice(0, 5)).toEqual([7, 15, 31, 39, 39]);
  });
});
