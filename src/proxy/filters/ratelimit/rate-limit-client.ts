/** envoy.service.ratelimit.v3.RateLimitService: descriptors, and what its answer means. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  RateLimitResponse_Code as Code,
  type RateLimitResponse_DescriptorStatus as DescriptorStatus,
  RateLimitRequestSchema,
  type RateLimitResponse,
  RateLimitResponseSchema,
} from "../../../api/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { Descriptor } from "../../router/rate-limit-policy.ts";
import { filterStateOf, type HeaderList, type StreamInfo } from "../../stream-info.ts";
import type { AsyncCall } from "../../upstream/async-client.ts";
import type { GrpcService } from "../../upstream/grpc-service.ts";
import { hitsAddendKey } from "../filter-state-values.ts";

export interface Answered {
  readonly kind: "ok" | "overLimit";
  /** One for each descriptor. */
  readonly statuses: readonly DescriptorStatus[];
  readonly requestHeaders: HeaderList;
  readonly responseHeaders: HeaderList;
  /** latin1 */
  readonly body: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export type RateLimitVerdict = Answered | { readonly kind: "failed" };

const path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

export class RateLimitClient {
  readonly #service: GrpcService;

  constructor(service: GrpcService) {
    this.#service = service;
  }

  /** `done` is called once, never from within `ask`, unless the call is cancelled before. */
  ask(domain: string, descriptors: readonly Descriptor[], info: StreamInfo, done: (verdict: RateLimitVerdict) => void): AsyncCall {
    const request = create(RateLimitRequestSchema, {
      domain,
      hitsAddend: hitsOf(filterStateOf(info, hitsAddendKey)),
      descriptors: descriptors.map(({ entries, limit, hits }) => ({
        entries: entries.map(({ key, value }) => ({ key, value: utf8Of(value) })),
        ...(limit !== null && { limit }),
        ...(hits !== null && { hitsAddend: BigInt(hits) }),
      })),
    });
    return this.#service.call(path, toBinary(RateLimitRequestSchema, request), info, (outcome) => {
      done("message" in outcome ? verdictOf(outcome.message) : { kind: "failed" });
    });
  }
}

/** 0, which the service takes for 1, where nothing sensible is said. */
function hitsOf(text: string | undefined): number {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Math.min(Number(text), 2 ** 32 - 1) : 0;
}

/** Texts of a request are bytes by latin1 characters; on the wire they are bytes again. */
function utf8Of(text: string): string {
  return /[\x80-\xff]/.test(text) ? Buffer.from(text, "latin1").toString("utf8") : text;
}

function verdictOf(message: Uint8Array): RateLimitVerdict {
  let response: RateLimitResponse;
  try {
    response = fromBinary(RateLimitResponseSchema, message);
  } catch {
    return { kind: "failed" };
  }
  return {
    kind: response.overallCode === Code.OVER_LIMIT ? "overLimit" : "ok",
    statuses: response.statuses,
    requestHeaders: listOf(response.requestHeadersToAdd),
    responseHeaders: listOf(response.responseHeadersToAdd),
    body: Buffer.from(response.rawBody).toString("latin1"),
    metadata: response.dynamicMetadata ?? {},
  };
}

function listOf(headers: RateLimitResponse["responseHeadersToAdd"]): HeaderList {
  return headers.flatMap(({ key, value, rawValue }) => [
    key.toLowerCase(),
    (rawValue.length > 0 ? Buffer.from(rawValue) : Buffer.from(value)).toString("latin1"),
  ]);
}
