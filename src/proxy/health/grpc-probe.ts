/** `grpc.health.v1.Health/Check`: well when it says SERVING. */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { editCheckHeaders } from "./check-headers.ts";
import type { GrpcCheck } from "./health-check-config.ts";
import { failed, type HealthProbe, type ProbeOutcome, type ProbeTarget, passed, unreachable } from "./health-probe.ts";
import { type Http2Answer, Http2Exchange } from "./http2-exchange.ts";

const maxAnswerBytes = 4096;
/** A message's compression flag and length. */
const prefixBytes = 5;
const serving = 1;

export class GrpcProbe implements HealthProbe {
  readonly #check: GrpcCheck;
  readonly #target: ProbeTarget;
  readonly #exchange: Http2Exchange;
  readonly #message: Buffer;
  readonly #timeoutMs: number;

  constructor(check: GrpcCheck, target: ProbeTarget, timeoutMs: number) {
    this.#check = check;
    this.#target = target;
    this.#timeoutMs = timeoutMs;
    this.#exchange = new Http2Exchange(target);
    const request = check.service === "" ? new Uint8Array() : new BinaryWriter().tag(1, 2).string(check.service).finish();
    const prefix = Buffer.alloc(prefixBytes);
    prefix.writeUInt32BE(request.length, 1);
    this.#message = Buffer.concat([prefix, request]);
  }

  ask(done: (outcome: ProbeOutcome) => void): void {
    const headers = [
      ...[":method", "POST", ":path", "/grpc.health.v1.Health/Check", ":authority", this.#target.authority],
      ...["te", "trailers", "content-type", "application/grpc", "user-agent", "Envoy/HC"],
    ];
    editCheckHeaders(headers, this.#check.edits, this.#target.key);
    headers.push("grpc-timeout", `${Math.ceil(this.#timeoutMs)}m`);
    this.#exchange.ask(headers, this.#message, maxAnswerBytes, (answer) => {
      if (answer === null) done(unreachable);
      else done(isServing(answer) ? passed : failed);
    });
  }

  giveUp(): void {
    if (this.#target.reusesConnection) this.#exchange.cancel();
    else this.#exchange.close();
  }

  close(): void {
    this.#exchange.close();
  }
}

function isServing({ headers, trailers, body }: Http2Answer): boolean {
  if (headers[":status"] !== 200 || !String(headers["content-type"]).startsWith("application/grpc")) return false;
  if ((trailers["grpc-status"] ?? headers["grpc-status"])?.toString() !== "0") return false;
  const isWhole = body.length > prefixBytes && body[0] === 0 && body.length === prefixBytes + body.readUInt32BE(1);
  if (!isWhole) return false;
  try {
    return statusOf(body.subarray(prefixBytes)) === serving;
  } catch {
    return false;
  }
}

/** `grpc.health.v1.HealthCheckResponse.status` */
function statusOf(message: Uint8Array): number {
  const reader = new BinaryReader(message);
  let status = 0;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1 && wireType === 0) status = reader.uint32();
    else reader.skip(wireType, field);
  }
  return status;
}
