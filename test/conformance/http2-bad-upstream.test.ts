/** Endpoints that break the rules of HTTP/2, before Envoy and before our proxy: what the client gets, and what is written of it, side by side. */
import { once } from "node:events";
import { get } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { eventually } from "../support/proxies.ts";
import { http2Only, httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

const frame = (kind: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const [data, headersFrame, reset, settings, push, ping, goAway, windowUpdate, continuation] = [0, 1, 3, 4, 5, 6, 7, 8, 9];
const [endStream, endHeaders] = [1, 4];
const word = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
/** Literal fields without indexing. */
const block = (...fields: readonly (readonly [string, string])[]) =>
  Buffer.concat(
    fields.flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name, "latin1"),
      Buffer.from([value.length]),
      Buffer.from(value, "latin1"),
    ]),
  );
const ok = [":status", "200"] as const;
const head = (stream: number, flags: number, ...fields: readonly (readonly [string, string])[]) =>
  frame(headersFrame!, endHeaders! | flags, stream, block(...fields));
const body = (stream: number, flags: number, text: string) => frame(data!, flags, stream, Buffer.from(text));

/** What is sent when the request on that stream has come; the connection then stays open, unless it is to be closed. */
const replies: Readonly<Record<string, (stream: number) => readonly Buffer[]>> = {
  "a good one": (id) => [head(id, 0, ok), body(id, endStream!, "good")],
  "WINDOW_UPDATE by nothing": (id) => [frame(windowUpdate!, 0, id, word(0))],
  "a window that is too large": (id) => [frame(windowUpdate!, 0, id, word(0x7fff_ffff))],
  "a connection's window that is too large": () => [frame(windowUpdate!, 0, 0, word(0x7fff_ffff))],
  "a body before the head": (id) => [body(id, endStream!, "early")],
  "a head without a status": (id) => [head(id, endStream!, ["x-a", "b"])],
  "a status that is none": (id) => [head(id, endStream!, [":status", "abc"])],
  "a status of two digits": (id) => [head(id, endStream!, [":status", "20"])],
  "another pseudo-header": (id) => [head(id, endStream!, ok, [":path", "/"])],
  "a name in upper case": (id) => [head(id, endStream!, ok, ["X-Upper", "b"])],
  "a header of the connection": (id) => [head(id, endStream!, ok, ["connection", "close"])],
  "a line end in a value": (id) => [head(id, endStream!, ok, ["x-a", "b\r\nx-c: d"])],
  "a length that does not hold": (id) => [head(id, 0, ok, ["content-length", "3"]), body(id, endStream!, "longer")],
  "a length that is not reached": (id) => [head(id, 0, ok, ["content-length", "30"]), body(id, endStream!, "short")],
  "101": (id) => [head(id, endStream!, [":status", "101"])],
  "an interim head that ends": (id) => [head(id, endStream!, [":status", "103"])],
  "trailers with a pseudo-header": (id) => [head(id, 0, ok), body(id, 0, "x"), head(id, endStream!, [":status", "200"])],
  "trailers without an end": (id) => [head(id, 0, ok), body(id, 0, "x"), head(id, 0, ["x-a", "b"])],
  "a body behind the end": (id) => [head(id, endStream!, ok), body(id, endStream!, "late")],
  "a stream that nobody opened": (id) => [head(id + 20, endStream!, ok)],
  "a frame that is too large": (id) => [frame(data!, 0, id, Buffer.alloc(20_000))],
  "SETTINGS that make no sense": () => [frame(settings!, 0, 0, Buffer.from([0, 4, 0xff, 0xff, 0xff, 0xff]))],
  "a PING of the wrong length": () => [frame(ping!, 0, 0, Buffer.alloc(7))],
  "CONTINUATION of nothing": (id) => [frame(continuation!, endHeaders!, id)],
  "GOAWAY with an error": (id) => [frame(goAway!, 0, 0, Buffer.concat([word(id), word(2)]))],
  "GOAWAY before the request": () => [frame(goAway!, 0, 0, Buffer.concat([word(0), word(0)]))],
  "a reset without a code": (id) => [frame(reset!, 0, id, word(0))],
  "a reset with a code that nobody knows": (id) => [frame(reset!, 0, id, word(99))],
  "a block that can't be read": (id) => [
    frame(headersFrame!, endHeaders! | endStream!, id, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
  ],
  "no HTTP/2 at all": () => [Buffer.from("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")],
};
/** Envoy waits for the response; a client that has forbidden pushes must take it as a connection error (RFC 9113, 6.6). */
const pushed = (id: number) => [frame(push!, endHeaders!, id, Buffer.concat([word(2), block([":method", "GET"])]))];
/** Says nothing that would end the request: the end of the connection does. */
const closedBehind = new Set(["a body before the head", "GOAWAY with an error", "trailers without an end"]);

/** Answers the first request of each connection as the request's path says. */
class BadEndpoint {
  readonly sockets = new Set<Socket>();
  readonly server = createServer((socket) => {
    this.sockets.add(socket);
    let received = Buffer.alloc(0);
    let isAnswered = false;
    socket.on("error", () => {});
    socket.write(frame(settings!, 0, 0));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      for (let at = 24; at + 9 <= received.length; ) {
        const length = received.readUIntBE(at, 3);
        if (received[at + 3] === headersFrame && !isAnswered) {
          isAnswered = true;
          const stream = received.readUInt32BE(at + 5);
          socket.write(Buffer.concat((replies[this.mood] ?? pushed)(stream)));
          if (closedBehind.has(this.mood)) setTimeout(() => socket.end(), 50);
        }
        at += 9 + length;
      }
    });
  });
  mood = "a good one";
}

function bootstrap(upstream: number): object {
  const manager = {
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          response_headers_to_add: [
            { header: { key: "x-details", value: "%RESPONSE_CODE_DETAILS%" } },
            { header: { key: "x-flags", value: "%RESPONSE_FLAGS%" } },
          ],
          routes: [{ match: { prefix: "/" }, route: { cluster: "up", timeout: "2s" } }],
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap(
    [staticCluster("up", [upstream], { ...http2Only, common_http_protocol_options: { max_requests_per_connection: 1 } })],
    manager,
  );
}

function ask(port: number): Promise<unknown> {
  return new Promise((resolve) => {
    get({ port, host: "127.0.0.1", path: "/", agent: false }, (response) => {
      let text = "";
      response.setEncoding("latin1").on("data", (part: string) => {
        text += part;
      });
      const { statusCode, headers } = response;
      const end = (how: string) => resolve({ statusCode, details: headers["x-details"], flags: headers["x-flags"], text, how });
      response.on("end", () => end("whole")).on("error", () => end("cut"));
    }).on("error", () => resolve("nothing"));
  });
}

describe.skipIf(!envoyBinary)("Endpoints that break the rules of HTTP/2, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const sides = new Map<string, { readonly port: number; readonly endpoint: BadEndpoint; readonly active: () => Promise<string> }>();

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const endpoint = new BadEndpoint();
        endpoint.server.listen(0, "127.0.0.1");
        await once(endpoint.server, "listening");
        stack.defer(() => {
          for (const socket of endpoint.sockets) socket.destroy();
          endpoint.server.close();
        });
        const proxy = stack.use(await start(bootstrap((endpoint.server.address() as AddressInfo).port)));
        const active = () => proxy.admin("/stats?filter=cluster.up.upstream_(cx|rq)_active");
        sides.set(name, { port: await proxy.listenerPort("in"), endpoint, active });
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(replies))("%s", async (mood) => {
    const [theirs, ours] = await Promise.all(
      proxies.map(async ({ name }) => {
        const { port, endpoint, active } = sides.get(name)!;
        endpoint.mood = mood;
        const answer = await ask(port);
        for (const socket of endpoint.sockets) socket.destroy();
        await eventually(
          async () => ((await active()).split("\n").every((line) => line === "" || line.endsWith(": 0")) ? true : undefined),
          "nothing to be left",
        );
        return answer;
      }),
    );
    expect(ours).toEqual(theirs);
  });

  it("PUSH_PROMISE ends the connection with ours", async () => {
    const { port, endpoint } = sides.get("topsail")!;
    endpoint.mood = "a push";
    expect(await ask(port)).toMatchObject({ statusCode: 502, flags: "UPE" });
  });
});
