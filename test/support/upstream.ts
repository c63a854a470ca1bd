/**
 * An upstream that remembers what reached it and answers as the request's own `x-reply` header says.
 *
 *     x-reply: {"status":503,"headers":[["x-a","1"]],"body":"no","delayMs":50}
 *     x-reply: {"statuses":[503,503,200]}       one after the other for requests of one x-case
 *     x-reply: {"raw":"HTTP/1.1 200 OK\r\n..."} these bytes, then the connection is closed
 *     x-reply: {"close":"before"|"headers"|"body"}, {"chunks":["a","b"]}, {"interim":103}
 *
 * Requests that a proxy makes by itself have no such header: for them `replies` says it by path.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly version: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

export interface Reply {
  readonly status?: number;
  readonly statuses?: readonly number[];
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
  readonly chunks?: readonly string[];
  readonly trailers?: Record<string, string>;
  readonly delayMs?: number;
  readonly raw?: string;
  readonly close?: "before" | "headers" | "body";
  readonly interim?: number;
}

export interface TestUpstream extends AsyncDisposable {
  readonly name: string;
  readonly port: number;
  /** Whole requests, in the order in which they ended. */
  readonly seen: SeenRequest[];
  /** Connections that are open. */
  readonly connections: ReadonlySet<Socket>;
}

/** With `tls` it speaks HTTP/1.1 inside TLS. */
export async function startUpstream(name = "up", tls?: TlsOptions, replies: Readonly<Record<string, Reply>> = {}): Promise<TestUpstream> {
  const seen: SeenRequest[] = [];
  const attempts = new Map<string, number>();
  const connections = new Set<Socket>();
  const http = createServer(
    { maxHeaderSize: 128 * 1024, keepAlive: true, keepAliveTimeout: 600_000, requestTimeout: 0 },
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const headers: [string, string][] = [];
        for (let i = 0; i < request.rawHeaders.length; i += 2) headers.push([request.rawHeaders[i]!, request.rawHeaders[i + 1]!]);
        const body = Buffer.concat(chunks).toString("latin1");
        seen.push({ method: request.method!, path: request.url!, version: request.httpVersion, headers, body });
        const { "x-reply": asked, "x-case": caseId } = request.headers;
        const path = request.url!;
        const reply = typeof asked === "string" ? (JSON.parse(asked) as Reply) : replies[path];
        answer(name, request, response, body, reply ?? {}, nextOf(attempts, String(caseId ?? path)));
      });
      request.on("error", () => {});
    },
  );
  // Whatever is expected, it is the request's own x-reply that decides.
  http.on("checkExpectation", (request, response) => http.emit("request", request, response));
  http.on("upgrade", (request: IncomingMessage, socket: Socket) => {
    seen.push({ method: request.method!, path: request.url!, version: request.httpVersion, headers: pairs(request.rawHeaders), body: "" });
    socket.on("error", () => {});
    if (request.headers["x-reply"]) {
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
      return;
    }
    socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx-hello: there\r\n\r\n");
    socket.on("data", (bytes: Buffer) => socket.write(`echo:${bytes.toString("latin1")}`));
    socket.on("end", () => socket.end());
  });
  const server = tls ? createTlsServer(tls, (socket) => http.emit("connection", socket)) : http;
  server.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
  });
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    name,
    port: (server.address() as AddressInfo).port,
    seen,
    connections,
    async [Symbol.asyncDispose]() {
      for (const socket of connections) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function pairs(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, index) => [raw[index * 2]!, raw[index * 2 + 1]!]);
}

function answer(name: string, request: IncomingMessage, response: ServerResponse, body: string, reply: Reply, next: Next): void {
  const { socket } = request;
  const go = () => {
    if (reply.raw !== undefined) {
      socket.end(Buffer.from(reply.raw, "latin1"));
      return;
    }
    if (reply.close === "before") {
      socket.destroy();
      return;
    }
    if (reply.interim === 103) response.writeEarlyHints({ link: "</a.css>; rel=preload" });
    const status = reply.statuses ? next(reply.statuses) : (reply.status ?? 200);
    const text = reply.chunks ? "" : (reply.body ?? `${name} ${request.method} ${request.url} ${body.length}\n`);
    response.sendDate = false;
    const headers = (reply.headers ?? []).flat();
    const length = reply.chunks ? [] : ["content-length", String(Buffer.byteLength(text, "latin1"))];
    response.writeHead(status, [...headers, ...(status === 204 || status === 304 ? [] : length), "x-upstream", name]);
    if (reply.close === "headers") {
      response.flushHeaders();
      setImmediate(() => socket.destroy());
      return;
    }
    if (reply.chunks) {
      for (const chunk of reply.chunks) response.write(Buffer.from(chunk, "latin1"));
      if (reply.close === "body") {
        setImmediate(() => socket.destroy());
        return;
      }
      if (reply.trailers) response.addTrailers(reply.trailers);
      response.end();
      return;
    }
    response.end(Buffer.from(text, "latin1"));
  };
  if (reply.delayMs) setTimeout(go, reply.delayMs).unref();
  else go();
}

type Next = <T>(list: readonly T[]) => T;

/** Counts on with each call for `key`; the last of the list stays. */
function nextOf(attempts: Map<string, number>, key: string): Next {
  return (list) => {
    const attempt = attempts.get(key) ?? 0;
    attempts.set(key, attempt + 1);
    return list[Math.min(attempt, list.length - 1)]!;
  };
}

export interface TestTcpUpstream extends AsyncDisposable {
  readonly port: number;
  readonly received: string[];
}

/** Sends back what it gets behind `NAME:`, and closes when its peer does. */
export async function startTcpUpstream(name = "tcp"): Promise<TestTcpUpstream> {
  const received: string[] = [];
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("data", (bytes) => {
      received.push(bytes.toString("latin1"));
      socket.write(`${name}:${bytes.toString("latin1")}`);
    });
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    received,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
