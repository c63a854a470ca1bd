/** envoy.service.auth.v3.Authorization: a CheckRequest, and what its answer means. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  type HeaderValueOption,
} from "../../../../api/gen/envoy/config/core/v3/base_pb.js";
import { CheckRequestSchema, type CheckResponse, CheckResponseSchema } from "../../../../api/gen/envoy/service/auth/v3/external_auth_pb.js";
import type { HeaderList } from "../../../stream-info.ts";
import type { AsyncCall } from "../../../upstream/async-client.ts";
import type { GrpcOutcome } from "../../../upstream/grpc-client.ts";
import type { GrpcService } from "../../../upstream/grpc-service.ts";
import type { Authorizer, HeaderChange, Question, Verdict } from "./authorizer.ts";
import { type CheckRequestOptions, checkRequestOf } from "./check-request.ts";

export const checkPath = "/envoy.service.auth.v3.Authorization/Check";
const forbidden = 403;

export class GrpcAuthorizer implements Authorizer {
  readonly #service: GrpcService;
  readonly #options: CheckRequestOptions;

  constructor(service: GrpcService, options: CheckRequestOptions) {
    this.#service = service;
    this.#options = options;
  }

  ask(question: Question, done: (verdict: Verdict) => void): AsyncCall {
    const message = toBinary(CheckRequestSchema, checkRequestOf(question, this.#options));
    return this.#service.call(checkPath, message, question.stream.info, (outcome) => done(verdictOf(outcome)));
  }
}

export function verdictOf(outcome: GrpcOutcome): Verdict {
  if (!("message" in outcome)) return { kind: "failed" };
  let response: CheckResponse;
  try {
    response = fromBinary(CheckResponseSchema, outcome.message);
  } catch {
    return { kind: "failed" };
  }
  return (response.status?.code ?? 0) === 0 ? allowed(response) : denied(response);
}

function allowed({ httpResponse, dynamicMetadata }: CheckResponse): Verdict {
  const ok = httpResponse.case === "okResponse" ? httpResponse.value : undefined;
  return {
    kind: "allowed",
    requestHeaders: inOrder((ok?.headers ?? []).map(requestChange)),
    requestHeadersToRemove: (ok?.headersToRemove ?? []).map((name) => name.toLowerCase()),
    responseHeaders: inOrder((ok?.responseHeadersToAdd ?? []).map(responseChange)),
    queryToSet: (ok?.queryParametersToSet ?? []).map(({ key, value }) => [key, value] as const),
    queryToRemove: ok?.queryParametersToRemove ?? [],
    metadata: dynamicMetadata ?? ok?.dynamicMetadata ?? null,
  };
}

function denied({ httpResponse, dynamicMetadata }: CheckResponse): Verdict {
  const reply = httpResponse.case === "deniedResponse" ? httpResponse.value : undefined;
  const headers: HeaderList = [];
  for (const { header, append } of reply?.headers ?? []) {
    // There is nothing yet to append to.
    if (header !== undefined && !append) headers.push(header.key.toLowerCase(), textOf(header));
  }
  return {
    kind: "denied",
    status: reply?.status?.code || forbidden,
    headers,
    body: Buffer.from(reply?.body ?? "").toString("latin1"),
    metadata: dynamicMetadata ?? null,
  };
}

/** Of requests only the older `append` counts. */
function requestChange({ header, append }: HeaderValueOption): HeaderChange {
  return { action: append ? "appendIfPresent" : "set", ...named(header) };
}

function responseChange({ header, append, appendAction }: HeaderValueOption): HeaderChange {
  const action = append === undefined ? actionOf(appendAction) : append ? "add" : "set";
  return { action, ...named(header) };
}

function named(header: HeaderValueOption["header"]): { readonly name: string; readonly value: string } {
  return header === undefined ? { name: "", value: "" } : { name: header.key.toLowerCase(), value: textOf(header) };
}

const order: readonly HeaderChange["action"][] = ["add", "set", "addIfAbsent", "setIfPresent", "appendIfPresent"];

/** Those of one kind are made together, in Envoy's order of kinds. */
function inOrder(changes: readonly HeaderChange[]): readonly HeaderChange[] {
  return changes.length < 2 ? changes : changes.toSorted((a, b) => order.indexOf(a.action) - order.indexOf(b.action));
}

function actionOf(action: AppendAction): HeaderChange["action"] {
  switch (action) {
    case AppendAction.ADD_IF_ABSENT:
      return "addIfAbsent";
    case AppendAction.OVERWRITE_IF_EXISTS:
      return "setIfPresent";
    case AppendAction.OVERWRITE_IF_EXISTS_OR_ADD:
      return "set";
    default:
      return "add";
  }
}

function textOf({ value, rawValue }: { readonly value: string; readonly rawValue: Uint8Array }): string {
  return (rawValue.length > 0 ? Buffer.from(rawValue) : Buffer.from(value)).toString("latin1");
}
