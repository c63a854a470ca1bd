/** `grpc.health.v1.Health` over HTTP/2 without TLS, answering as the test says. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";

export interface GrpcHealthServer extends AsyncDisposable {
  readonly port: number;
  /** A serving status by number, or a gRPC status without an answer. */
  says: { readonly serving: number } | { readonly grpcStatus: number };
  /** Requests that have come. */
  readonly checks: { readonly headers: IncomingHttpHeaders; readonly body: string }[];
}

export async function startGrpcHealthServer(): Promise<GrpcHealthServer> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  const running: GrpcHealthServer = {
    port: 0,
    says: { serving: 1 },
    checks: [],
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      running.checks.push({ headers, body: Buffer.concat(chunks).toString("hex") });
      const { says } = running;
      const head = { ":status": 200, "content-type": "application/grpc" };
      if ("grpcStatus" in says) {
        stream.respond({ ...head, "grpc-status": String(says.grpcStatus) }, { endStream: true });
        return;
      }
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, says.serving]));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(running, { port: (server.address() as AddressInfo).port });
}
