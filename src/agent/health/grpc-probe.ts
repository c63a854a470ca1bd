import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import type { GrpcHealthCheckConfig } from "../../api/kinds/workload-group.ts";
import type { Probe, ProbeTarget } from "./probe.ts";

/** `grpc.health.v1.HealthCheckResponse.ServingStatus` */
const servingStatus = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const maxAnswerBytes = 4096;

/** Well when `grpc.health.v1.Health/Check` says SERVING. */
export class GrpcProbe implements Probe {
  readonly #port: number;
  readonly #message: Buffer;
  readonly #target: ProbeTarget;

  constructor({ port, service }: GrpcHealthCheckConfig, target: ProbeTarget) {
    this.#port = port;
    this.#target = target;
    const request = service ? new BinaryWriter().tag(1, 2).string(service).finish() : new Uint8Array();
    const head = Buffer.alloc(5);
    head.writeUInt32BE(request.length, 1);
    this.#message = Buffer.concat([head, request]);
  }

  async check(signal: AbortSignal): Promise<string | undefined> {
    const { host, from } = this.#target;
    const session = connectHttp2(`http://${host.includes(":") ? `[${host}]` : host}:${this.#port}`, {
      createConnection: () => connect({ host, port: this.#port, ...(from ? { localAddress: from } : {}), signal }),
    });
    try {
      return await this.#ask(session, signal);
    } catch (error) {
      return signal.aborted ? "the health service did not answer in time" : error instanceof Error ? error.message : String(error);
    } finally {
      session.destroy();
    }
  }

  #ask(session: ClientHttp2Session, signal: AbortSignal): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      session.once("error", reject);
      const stream = session.request(
        {
          [constants.HTTP2_HEADER_METHOD]: "POST",
          [constants.HTTP2_HEADER_PATH]: "/grpc.health.v1.Health/Check",
          "content-type": "application/grpc",
          te: "trailers",
          "user-agent": "istio-probe/1.0",
        },
        { signal },
      );
      const answer: Buffer[] = [];
      let bytes = 0;
      let grpcStatus: string | undefined;
      const readStatus = (headers: Record<string, unknown>) => {
        if (typeof headers["grpc-status"] === "string") grpcStatus = headers["grpc-status"];
      };
      stream.once("error", reject);
      stream.on("response", readStatus);
      stream.on("trailers", readStatus);
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxAnswerBytes) stream.destroy(new Error("the health service answers with too much"));
        else answer.push(chunk);
      });
      stream.once("end", () => resolve(verdict(grpcStatus, Buffer.concat(answer))));
      stream.end(this.#message);
    });
  }
}

function verdict(grpcStatus: string | undefined, answer: Buffer): string | undefined {
  if (grpcStatus === "12") return "the application has no health service grpc.health.v1.Health";
  if (grpcStatus !== "0") return `the health service answered with gRPC status ${grpcStatus ?? "none"}`;
  let serving = 0;
  try {
    const reader = new BinaryReader(answer.subarray(5));
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 1 && wireType === 0) serving = reader.uint32();
      else reader.skip(wireType, field);
    }
  } catch {
    return "the health service answered with something else";
  }
  return serving === 1 ? undefined : `the health service says ${servingStatus[serving] ?? serving}`;
}
