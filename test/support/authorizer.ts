/**
 * Authorizers as CUSTOM policies ask them, over HTTP and over gRPC. Who says `x-ext-authz: allow` is let in; a connection, which says
 * nothing, by its address: 127.0.0.7.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import {
  type CheckRequest,
  CheckRequestSchema,
  type CheckResponse,
  CheckResponseSchema,
} from "../../src/api/gen/envoy/service/auth/v3/external_auth_pb.js";

export interface SeenCheck {
  readonly line: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface TestAuthorizer extends AsyncDisposable {
  readonly port: number;
  readonly seen: SeenCheck[];
}

const reason = "said the authorizer";

export async function startHttpAuthorizer(): Promise<TestAuthorizer> {
  const seen: SeenCheck[] = [];
  const server = createServer({ keepAliveTimeout: 600_000 }, (request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const headers = request.headers as Record<string, string>;
      seen.push({ line: `${request.method} ${request.url}`, headers, body: Buffer.concat(chunks).toString("latin1") });
      const isAllowed = headers["x-ext-authz"] === "allow";
      response.writeHead(isAllowed ? 200 : 401, { "x-verdict": isAllowed ? "in" : "out", "x-other": "1" });
      response.end(isAllowed ? "" : reason);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const check = {
  path: "/envoy.service.auth.v3.Authorization/Check",
  requestStream: false,
  responseStream: false,
  requestSerialize: (value: CheckRequest) => Buffer.from(toBinary(CheckRequestSchema, value)),
  requestDeserialize: (bytes: Buffer) => fromBinary(CheckRequestSchema, bytes),
  responseSerialize: (value: CheckResponse) => Buffer.from(toBinary(CheckResponseSchema, value)),
  responseDeserialize: (bytes: Buffer) => fromBinary(CheckResponseSchema, bytes),
};

const codes = { ok: 0, permissionDenied: 7 };

export async function startGrpcAuthorizer(): Promise<TestAuthorizer> {
  const seen: SeenCheck[] = [];
  const server = new Server();
  server.addService(
    { Check: check },
    {
      Check({ request }: ServerUnaryCall<CheckRequest, CheckResponse>, done: sendUnaryData<CheckResponse>) {
        const http = request.attributes?.request?.http;
        if (http) seen.push({ line: `${http.method} ${http.path}`, headers: http.headers, body: http.body });
        else seen.push({ line: "connection", headers: {}, body: "" });
        const peer = request.attributes?.source?.address?.address;
        const isAllowed = http
          ? http.headers["x-ext-authz"] === "allow"
          : peer?.case === "socketAddress" && peer.value.address === "127.0.0.7";
        done(null, isAllowed ? allowed() : denied());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return {
    port,
    seen,
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
    },
  };
}

function allowed(): CheckResponse {
  return create(CheckResponseSchema, {
    status: { code: codes.ok },
    httpResponse: { case: "okResponse", value: { headers: [{ header: { key: "x-verdict", value: "in" } }] } },
  });
}

function denied(): CheckResponse {
  return create(CheckResponseSchema, {
    status: { code: codes.permissionDenied },
    httpResponse: {
      case: "deniedResponse",
      value: { status: { code: 401 }, body: reason, headers: [{ header: { key: "x-verdict", value: "out" } }] },
    },
  });
}
