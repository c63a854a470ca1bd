/** An upstream that speaks HTTP/1.1 and HTTP/2 on one port, plain or in TLS, remembers what it was asked, and answers as `x-reply` says. */
import { once } from "node:events";
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import * as http2 from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { createServer as createTlsServer } from "node:tls";

export interface SeenRequest {
  readonly protocol: string;
  /** Pseudo-headers too. */
  readonly headers: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  /** Of the reset that ended it; 0: none. */
  readonly reset: number;
}

export interface UpstreamTls {
  readonly certificate: string;
  readonly key: string;
  /** What it agrees to, the first first. */
  readonly protocols: readonly string[];
}

export class Http2Upstream implements AsyncDisposable {
  readonly seen: SeenRequest[] = [];
  /** What clients have offered by ALPN. */
  readonly offered: (readonly string[])[] = [];
  connections = 0;
  readonly #http1 = createHttp1Server((request, response) => this.#onHttp1(request, response));
  readonly #http2 = http2.createServer({ settings: { maxConcurrentStreams: 50 } });
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  constructor(tls?: UpstreamTls) {
    this.#http2.on("stream", (stream, headers) => this.#onStream(stream as http2.ServerHttp2Stream, headers));
    this.#http2.on("sessionError", () => {});
    const taken = (socket: Socket) => this.#onConnection(socket);
    if (tls === undefined) this.#server = createServer(taken);
    else {
      this.#server = createTlsServer(
        {
          cert: tls.certificate,
          key: tls.key,
          ALPNCallback: ({ protocols }) => {
            this.offered.push(protocols);
            return tls.protocols.find((protocol) => protocols.includes(protocol));
          },
        },
        taken,
      );
    }
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  #onConnection(socket: Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on("error", () => {}).on("close", () => this.#sockets.delete(socket));
    // What has been read can't be given back to a socket, so that servers get a stream of their own.
    const stream = new Duplex({
      read: () => void socket.resume(),
      write: (chunk: Buffer, _, done) => void socket.write(chunk, () => done()),
      final: (done) => void socket.end(() => done()),
      destroy: (_, done) => {
        socket.destroy();
        done(null);
      },
    });
    stream.on("error", () => {});
    let isKnown = false;
    socket.on("data", (chunk: Buffer) => {
      if (!isKnown) {
        isKnown = true;
        (chunk.toString("latin1").startsWith("PRI ") ? this.#http2 : this.#http1).emit("connection", stream);
      }
      if (!stream.push(chunk)) socket.pause();
    });
    socket.on("end", () => stream.push(null)).on("close", () => stream.destroy());
  }

  #onHttp1(request: IncomingMessage, response: ServerResponse): void {
    let body = "";
    request.setEncoding("latin1").on("data", (chunk: string) => {
      body += chunk;
    });
    request.on("end", () => {
      const { method, url, rawHeaders, rawTrailers } = request;
      const headers = [`:method: ${method}`, `:path: ${url}`, ...listed(rawHeaders)];
      this.seen.push({ protocol: "HTTP/1.1", headers: headers.sort(), body: digest(body), trailers: listed(rawTrailers), reset: 0 });
      if (request.headers["x-reply"] === "trailers") {
        response.writeHead(200, { trailer: "x-end" });
        response.write("body");
        response.addTrailers({ "x-end": "yes" });
        response.end();
      } else response.end("hello");
    });
  }

  #onStream(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
    let body = "";
    let trailers: string[] = [];
    stream.on("error", () => {});
    stream.setEncoding("latin1").on("data", (chunk: string) => {
      body += chunk;
    });
    stream.on("trailers", (all) => {
      trailers = entries(all);
    });
    const remember = (reset: number) =>
      this.seen.push({ protocol: "HTTP/2", headers: entries(headers), body: digest(body), trailers, reset });
    const reply = String(headers["x-reply"] ?? "");
    stream.on("close", () => {
      if (reply === "never" || reply === "hang" || reply === "early") remember(stream.rstCode ?? -1);
    });
    // Before the request has ended.
    if (reply === "early") {
      stream.respond({ ":status": 413 });
      stream.end("too much");
      return;
    }
    if (reply === "duplex") {
      stream.respond({ ":status": 200 });
      stream.write("first;");
    }
    stream.on("end", () => {
      if (reply === "never" || reply === "early") return;
      if (reply !== "hang") remember(0);
      this.#answer(stream, reply, body);
    });
  }

  #answer(stream: http2.ServerHttp2Stream, reply: string, body: string): void {
    const [kind, argument = ""] = reply.split(" ");
    switch (kind) {
      case "echo":
        stream.respond({ ":status": 200, "content-type": "text/plain" });
        stream.end(body, "latin1");
        return;
      case "duplex":
        stream.end(body, "latin1");
        return;
      case "big":
        stream.respond({ ":status": 200, "content-length": 1_500_000 });
        stream.end(Buffer.alloc(1_500_000, "b"));
        return;
      case "trailers":
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-end": "yes" }));
        stream.end("body");
        return;
      case "trailers-only":
        stream.respond(
          { ":status": 200, "content-type": "application/grpc", "grpc-status": "5", "grpc-message": "none" },
          { endStream: true },
        );
        return;
      case "status":
        stream.respond({ ":status": Number(argument) }, { endStream: true });
        return;
      case "interim":
        stream.additionalHeaders({ ":status": 103, link: "</a>" });
        stream.respond({ ":status": 200 });
        stream.end("final");
        return;
      case "reset":
        stream.close(Number(argument));
        return;
      case "reset-late":
        stream.respond({ ":status": 200 });
        stream.write("some", () => setTimeout(() => stream.close(Number(argument)), 50));
        return;
      case "hang":
        stream.respond({ ":status": 200 });
        return;
      case "cut":
        stream.session!.destroy();
        return;
      case "goaway":
        stream.session!.goaway(0, stream.id);
        stream.respond({ ":status": 200 });
        stream.end("last");
        return;
      default:
        stream.respond({ ":status": 200, "content-length": 5 });
        stream.end("hello");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

export function digest(body: string): string {
  return body.length > 100 ? `${body.length} bytes of ${body[0]}` : body;
}

function listed(raw: readonly string[]): string[] {
  const list: string[] = [];
  for (let i = 0; i < raw.length; i += 2) list.push(`${raw[i]!.toLowerCase()}: ${steady(raw[i]!.toLowerCase(), raw[i + 1]!)}`);
  return list.sort();
}

export function entries(headers: http2.IncomingHttpHeaders): string[] {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${steady(name, String(value))}`)
    .sort();
}

function steady(name: string, value: string): string {
  if (name === "date") return "<date>";
  if (name === "x-request-id") return "<uuid>";
  if (name === "x-envoy-upstream-service-time") return "<ms>";
  // What a retry has left.
  if (name === "x-envoy-expected-rq-timeout-ms" && Number(value) > 14_000 && Number(value) <= 15_000) return "~15000";
  return value.replace(/127\.0\.0\.1:\d+/, "<address>");
}
