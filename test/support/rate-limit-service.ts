/**
 * A rate limit service as somebody would write it: envoy.service.ratelimit.v3.RateLimitService on grpc-js, with limits by domain and
 * descriptor. Its windows don't end by themselves, so that nothing depends on the clock.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import type { RateLimitDescriptor } from "../../src/api/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  RateLimitResponse_Code as Code,
  type RateLimitRequest,
  RateLimitRequestSchema,
  type RateLimitResponse,
  RateLimitResponseSchema,
  RateLimitResponse_RateLimit_Unit as Unit,
} from "../../src/api/gen/envoy/service/ratelimit/v3/rls_pb.js";

export interface Limit {
  readonly domain: string;
  /** `key=value`, or `key` for each value by itself, joined by `,` where a descriptor has several entries. */
  readonly descriptor: string;
  readonly requestsPerMinute: number;
}

export class RateLimitService implements AsyncDisposable {
  readonly port: number;
  /** `domain key=value,...` of all descriptors that it was asked about. */
  readonly asked: string[];
  readonly #server: Server;
  readonly #counts: Map<string, number>;

  private constructor(server: Server, port: number, asked: string[], counts: Map<string, number>) {
    this.#server = server;
    this.port = port;
    this.asked = asked;
    this.#counts = counts;
  }

  static async start(limits: readonly Limit[]): Promise<RateLimitService> {
    const asked: string[] = [];
    const counts = new Map<string, number>();
    const server = new Server();
    server.addService(
      {
        ShouldRateLimit: {
          path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
          requestStream: false,
          responseStream: false,
          requestSerialize: (message: RateLimitRequest) => Buffer.from(toBinary(RateLimitRequestSchema, message)),
          requestDeserialize: (bytes: Buffer) => fromBinary(RateLimitRequestSchema, bytes),
          responseSerialize: (message: RateLimitResponse) => Buffer.from(toBinary(RateLimitResponseSchema, message)),
          responseDeserialize: (bytes: Buffer) => fromBinary(RateLimitResponseSchema, bytes),
        },
      },
      {
        ShouldRateLimit: (call: ServerUnaryCall<RateLimitRequest, RateLimitResponse>, done: sendUnaryData<RateLimitResponse>) => {
          const { domain, descriptors } = call.request;
          for (const descriptor of descriptors) asked.push(`${domain} ${textOf(descriptor)}`);
          done(null, decide(call.request, limits, counts));
        },
      },
    );
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    return new RateLimitService(server, port, asked, counts);
  }

  /** A new minute begins. */
  reset(): void {
    this.#counts.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}

function decide(request: RateLimitRequest, limits: readonly Limit[], counts: Map<string, number>): RateLimitResponse {
  const { domain, descriptors, hitsAddend } = request;
  const statuses = descriptors.map((descriptor) => {
    const limit = limits.find((candidate) => candidate.domain === domain && matches(descriptor, candidate.descriptor));
    if (!limit) return { code: Code.OK };
    const key = `${domain} ${textOf(descriptor)}`;
    const count = (counts.get(key) ?? 0) + Number(descriptor.hitsAddend ?? (hitsAddend || 1));
    counts.set(key, count);
    return {
      code: count > limit.requestsPerMinute ? Code.OVER_LIMIT : Code.OK,
      currentLimit: { requestsPerUnit: limit.requestsPerMinute, unit: Unit.MINUTE },
      limitRemaining: Math.max(0, limit.requestsPerMinute - count),
      durationUntilReset: { seconds: 60n },
    };
  });
  const isOver = statuses.some(({ code }) => code === Code.OVER_LIMIT);
  return create(RateLimitResponseSchema, { overallCode: isOver ? Code.OVER_LIMIT : Code.OK, statuses });
}

function textOf({ entries }: RateLimitDescriptor): string {
  return entries.map(({ key, value }) => `${key}=${value}`).join(",");
}

function matches({ entries }: RateLimitDescriptor, wanted: string): boolean {
  const parts = wanted.split(",");
  return (
    parts.length === entries.length &&
    parts.every((part, index) => [entries[index]!.key, `${entries[index]!.key}=${entries[index]!.value}`].includes(part))
  );
}
