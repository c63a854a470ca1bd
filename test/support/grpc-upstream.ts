/**
 * An authorizer and rate limit service that remembers what it was asked, and answers what the question itself says:
 *
 *     x-check: {...}                  header of the request to be authorized: a CheckResponse; absent: OK
 *     SNI deny.example                where the question tells it: no
 *     {key: reply, value: "{...}"}    entry of a descriptor: a RateLimitResponse; absent: OK
 *
 * Instead of a message `{"grpcStatus": 14}`, `{"httpStatus": 503}`, `{"delayMs": 500}`, `{"garbage": true}` or `{"reset": true}`.
 */
import { createSecureServer, createServer, type IncomingHttpHeaders, type SecureServerOptions, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { createRegistry, type DescMessage, fromBinary, fromJson, type JsonObject, toBinary, toJson } from "@bufbuild/protobuf";
import { CheckRequestSchema, CheckResponseSchema } from "../../src/api/gen/envoy/service/auth/v3/external_auth_pb.js";
import { RateLimitRequestSchema, RateLimitResponseSchema } from "../../src/api/gen/envoy/service/ratelimit/v3/rls_pb.js";

export interface SeenCall {
  /** `name: value`, sorted. */
  readonly headers: readonly string[];
  readonly message: JsonObject;
}

export interface TestGrpcUpstream extends AsyncDisposable {
  readonly port: number;
  readonly seen: SeenCall[];
  /** How many connections there have been. */
  readonly connections: () => number;
}

interface Special {
  readonly grpcStatus?: number;
  readonly httpStatus?: number;
  readonly delayMs?: number;
  readonly garbage?: boolean;
  readonly reset?: boolean;
}

interface Method {
  readonly input: DescMessage;
  readonly output: DescMessage;
  readonly ok: JsonObject;
  /** What the question says of its answer. */
  reply(message: JsonObject): string | undefined;
}

const methods: Readonly<Record<string, Method>> = {
  "/envoy.service.auth.v3.Authorization/Check": {
    input: CheckRequestSchema,
    output: CheckResponseSchema,
    ok: { status: {} },
    reply: (message) => {
      const { attributes } = message as {
        attributes?: { request?: { http?: { headers?: Record<string, string> } }; tlsSession?: { sni?: string } };
      };
      const denies = attributes?.tlsSession?.sni === "deny.example";
      return denies ? '{"status":{"code":7},"dynamicMetadata":{"why":"sni"}}' : attributes?.request?.http?.headers?.["x-check"];
    },
  },
  "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit": {
    input: RateLimitRequestSchema,
    output: RateLimitResponseSchema,
    ok: { overallCode: "OK" },
    reply: (message) =>
      (message as { descriptors?: { entries?: { key: string; value: string }[] }[] }).descriptors
        ?.flatMap(({ entries = [] }) => entries)
        .find(({ key }) => key === "reply")?.value,
  },
};

export async function startGrpcUpstream(tls?: SecureServerOptions): Promise<TestGrpcUpstream> {
  const seen: SeenCall[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = tls ? createSecureServer(tls) : createServer();
  server.on("connection", (socket: Socket) => {
    connections++;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  server.on("sessionError", () => {});
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const method = methods[String(headers[":path"])]!;
      const message = toJson(method.input, fromBinary(method.input, Buffer.concat(chunks).subarray(5))) as JsonObject;
      seen.push({ headers: describe(headers), message });
      answer(stream, method, JSON.parse(method.reply(message) ?? "{}") as JsonObject & Special);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function describe(headers: IncomingHttpHeaders): string[] {
  return Object.entries(headers)
    .filter(([name]) => name !== "user-agent")
    .map(([name, value]) => `${name}: ${String(value)}`)
    .sort();
}

const noTypes = createRegistry();

function answer(
  stream: ServerHttp2Stream,
  method: Method,
  { grpcStatus, httpStatus, delayMs, garbage, reset, ...reply }: JsonObject & Special,
): void {
  const go = () => {
    if (stream.destroyed) return;
    if (reset) {
      stream.close(2);
      return;
    }
    if (httpStatus) {
      stream.respond({ ":status": httpStatus }, { endStream: true });
      return;
    }
    if (grpcStatus) {
      stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": String(grpcStatus) }, { endStream: true });
      return;
    }
    const json = Object.keys(reply).length === 0 ? method.ok : reply;
    const bytes = garbage
      ? Buffer.from([0xff, 0xff])
      : toBinary(method.output, fromJson(method.output, json as JsonObject, { registry: noTypes }));
    const framed = Buffer.alloc(5 + bytes.length);
    framed.writeUInt32BE(bytes.length, 1);
    framed.set(bytes, 5);
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(framed);
  };
  if (delayMs) setTimeout(go, delayMs).unref();
  else go();
}
