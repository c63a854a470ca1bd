/** The official gRPC client and server of Node through Envoy and through our proxy, every kind of call: what the client and the server saw side by side. */
import { Client, type ClientReadableStream, credentials, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { bytes, EchoServer, service } from "../support/grpc-echo.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

function bootstrap(upstream: number): object {
  const manager = {
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            { match: { prefix: "/test.Echo/", headers: [{ name: "x-no-cluster", present_match: true }] }, route: { cluster: "nobody" } },
            {
              match: { prefix: "/test.Echo/" },
              route: { cluster: "up", timeout: "0s", max_stream_duration: { grpc_timeout_header_max: "0s" } },
            },
          ],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap([staticCluster("up", [upstream]), staticCluster("nobody", [])], manager);
}

function metadataOf(values: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  return metadata;
}

const steady = (metadata: Metadata) =>
  Object.entries(metadata.toHttp2Headers())
    .filter(([name]) => name !== "date" && name !== "x-envoy-upstream-service-time")
    .map(([name, value]) => `${name}: ${value}`)
    .sort();

/** Everything that a client hears of a call. */
interface Heard {
  readonly messages: readonly string[];
  readonly head: readonly string[];
  readonly code: number;
  readonly details: string;
  readonly trailers: readonly string[];
}

function heard(call: ClientReadableStream<Buffer> | ReturnType<Client["makeUnaryRequest"]>, messages: string[]): Promise<Heard> {
  let head: string[] = [];
  call.on("metadata", (metadata: Metadata) => {
    head = steady(metadata);
  });
  return new Promise((resolve) =>
    call.on("status", ({ code, details, metadata }: StatusObject) =>
      resolve({ messages, head, code, details: details.replace(/\b\d+\.\d+s\b/g, "<s>"), trailers: steady(metadata) }),
    ),
  );
}

const shown = (message: Buffer) => (message.length > 50 ? `${message.length} of ${String.fromCharCode(message[0]!)}` : message.toString());

function unary(client: Client, message: Buffer, values: Readonly<Record<string, string>> = {}, options: object = {}): Promise<Heard> {
  const messages: string[] = [];
  const call = client.makeUnaryRequest(service.Unary.path, bytes, bytes, message, metadataOf(values), options, (_, answer) => {
    if (answer) messages.push(shown(answer));
  });
  return heard(call, messages);
}

const calls: Readonly<Record<string, (client: Client, server: EchoServer) => Promise<unknown>>> = {
  "one message for one": (client) => unary(client, Buffer.from("hello"), { "x-one": "1" }),
  "an empty message": (client) => unary(client, Buffer.alloc(0)),
  "a large message, both ways": (client) => unary(client, Buffer.alloc(3_000_000, "m")),
  "a failure without anything before": (client) => unary(client, Buffer.from("x"), { "x-do": "fail 5.0" }),
  "a failure behind headers": (client) => unary(client, Buffer.from("x"), { "x-do": "fail 9" }),
  "a deadline": async (client, server) => {
    const answer = await unary(client, Buffer.from("x"), { "x-do": "hang" }, { deadline: Date.now() + 300 });
    await eventually(() => (server.cancelled.length > 0 ? true : undefined), "the server to hear of it");
    return [answer.code, server.cancelled.splice(0)];
  },
  "a call that is given up": async (client, server) => {
    const call = client.makeServerStreamRequest(
      service.ServerStream.path,
      bytes,
      bytes,
      Buffer.from("1"),
      metadataOf({ "x-do": "forever" }),
    );
    const messages: string[] = [];
    const outcome = heard(call, messages);
    call.on("error", () => {});
    call.on("data", (message: Buffer) => {
      messages.push(shown(message));
      call.cancel();
    });
    const answer = await outcome;
    await eventually(() => (server.cancelled.length > 0 ? true : undefined), "the server to hear of it");
    return [answer, server.cancelled.splice(0)];
  },
  "many messages for one": (client) => {
    const messages: string[] = [];
    const call = client.makeClientStreamRequest(service.ClientStream.path, bytes, bytes, new Metadata(), (_, answer) => {
      if (answer) messages.push(shown(answer));
    });
    for (let i = 0; i < 500; i++) call.write(Buffer.alloc(i));
    call.end();
    return heard(call as never, messages);
  },
  "one message for many": (client) => {
    const messages: string[] = [];
    const call = client.makeServerStreamRequest(service.ServerStream.path, bytes, bytes, Buffer.from("500"));
    call.on("data", (message: Buffer) => messages.push(shown(message)));
    return heard(call, messages);
  },
  "messages to and fro, each after the other": async (client) => {
    const messages: string[] = [];
    const call = client.makeBidiStreamRequest(service.Bidi.path, bytes, bytes);
    const outcome = heard(call as never, messages);
    call.on("data", (message: Buffer) => {
      messages.push(shown(message));
      if (messages.length < 20) call.write(Buffer.from(`message ${messages.length}`));
      else call.end();
    });
    call.write(Buffer.from("message 0"));
    return outcome;
  },
  "a hundred calls at once": (client) => Promise.all(Array.from({ length: 100 }, (_, i) => unary(client, Buffer.from(`call ${i}`)))),
  "no endpoint": (client) => unary(client, Buffer.from("x"), { "x-no-cluster": "1" }),
};

describe.skipIf(!envoyBinary)("gRPC, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const running = new Map<string, { readonly client: Client; readonly server: EchoServer }>();

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const server = stack.use(new EchoServer());
        const proxy: RunningProxy = stack.use(await start(bootstrap(await server.listen())));
        const client = new Client(`127.0.0.1:${await proxy.listenerPort("in")}`, credentials.createInsecure(), {
          "grpc.max_receive_message_length": -1,
        });
        stack.defer(() => client.close());
        running.set(name, { client, server });
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(calls))("%s", async (name) => {
    const [theirs, ours] = await Promise.all(
      proxies.map(({ name: side }) => {
        const { client, server } = running.get(side)!;
        return calls[name]!(client, server);
      }),
    );
    expect(ours).toEqual(theirs);
  });

  it("ends with the codes that the server chose", async () => {
    const { client } = running.get("topsail")!;
    expect((await unary(client, Buffer.from("x"))).code).toBe(status.OK);
    expect((await unary(client, Buffer.from("x"), { "x-do": "fail 7" })).code).toBe(status.PERMISSION_DENIED);
    expect((await unary(client, Buffer.from("x"), { "x-no-cluster": "1" })).code).toBe(status.UNAVAILABLE);
  });
});
