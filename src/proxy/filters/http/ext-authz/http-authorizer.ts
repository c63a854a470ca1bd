/**
 * The request's own head, less what the authorizer need not see, sent to the authorizer: 200 lets it pass, a 5xx is a failure, anything
 * else is the answer to the client.
 */
import { ConfigError } from "../../../../api/config-error.ts";
import type { HttpService } from "../../../../api/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import type { ListStringMatcher } from "../../../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { durationMs } from "../../../duration.ts";
import { setHeader } from "../../../http/header-list.ts";
import { compileHeaderValue, type HeaderValueFormat } from "../../../router/header-mutation.ts";
import { compileStringMatchers, type StringPredicate } from "../../../router/string-matcher.ts";
import type { HeaderList } from "../../../stream-info.ts";
import type { AsyncCall, AsyncClient, AsyncFailure, AsyncResponse } from "../../../upstream/async-client.ts";
import type { Authorizer, HeaderChange, Question, Verdict } from "./authorizer.ts";
import { collectHeaders, type HeaderFilter, partialBodyHeader } from "./request-headers.ts";

const never: StringPredicate = () => false;
/** Headers of the answer by which names of request headers to remove are told. */
const removalHeader = "x-envoy-auth-headers-to-remove";
const maxAnswerBytes = 1024 * 1024;
/** What a list of client headers means besides what it says. */
const alwaysForClients = new Set(["www-authenticate", "location"]);
/** Of the answer alone; content-length is set to the reply's. */
const framing = new Set(["transfer-encoding", "connection", "host"]);

export class HttpAuthorizer implements Authorizer {
  readonly #client: AsyncClient;
  readonly #cluster: string;
  readonly #timeoutMs: number;
  readonly #pathPrefix: string;
  readonly #wanted: HeaderFilter;
  readonly #added: readonly (readonly [name: string, value: HeaderValueFormat])[];
  readonly #toUpstream: StringPredicate;
  readonly #appendedToUpstream: StringPredicate;
  readonly #toClient: StringPredicate;
  readonly #toClientOnSuccess: StringPredicate;
  readonly #toMetadata: StringPredicate;

  /** `allowed`: what the filter lets through; `disallowed` goes before it. */
  constructor(config: HttpService, allowed: StringPredicate | null, disallowed: StringPredicate | null, client: AsyncClient) {
    const uri = config.serverUri;
    if (uri === undefined) throw new ConfigError("HttpService: server_uri: value is required");
    this.#client = client;
    this.#cluster = uri.httpUpstreamType.value ?? "";
    this.#timeoutMs = durationMs(uri.timeout, 0);
    this.#pathPrefix = config.pathPrefix;
    const { authorizationRequest: asked, authorizationResponse: answered } = config;
    const named = allowed ?? matchers(asked?.allowedHeaders);
    this.#wanted = (name) => (name === "authorization" || named(name)) && !(disallowed?.(name) ?? false);
    this.#added = (asked?.headersToAdd ?? []).map(({ key, value }) => [key.toLowerCase(), compileHeaderValue(value)] as const);
    this.#toUpstream = matchers(answered?.allowedUpstreamHeaders);
    this.#appendedToUpstream = matchers(answered?.allowedUpstreamHeadersToAppend);
    const forClients = matchers(answered?.allowedClientHeaders);
    this.#toClient = forClients === never ? () => true : (name) => alwaysForClients.has(name) || forClients(name);
    this.#toClientOnSuccess = matchers(answered?.allowedClientHeadersOnSuccess);
    this.#toMetadata = matchers(answered?.dynamicMetadataFromHeaders);
  }

  ask({ stream, body, bodyIsPartial }: Question, done: (verdict: Verdict) => void): AsyncCall {
    const { info } = stream;
    const headers = collectHeaders(info, this.#wanted, false);
    if (body !== null && this.#wanted(partialBodyHeader)) headers.push(partialBodyHeader, String(bodyIsPartial));
    for (const [name, format] of this.#added) {
      const value = typeof format === "string" ? format : format(info);
      if (value !== "") setHeader(headers, name, value);
    }
    const request = {
      method: info.method,
      path: this.#pathPrefix + info.path,
      authority: info.authority,
      headers,
      // Told even where there is none: an authorizer shall not wait for it.
      body: body ?? nothing,
      timeoutMs: this.#timeoutMs,
      maxBodyBytes: maxAnswerBytes,
      retryPolicy: null,
      sendsForwardedFor: false,
    };
    return this.#client.send(this.#cluster, request, (outcome) => done(this.#verdictOf(outcome)));
  }

  #verdictOf(outcome: AsyncResponse | AsyncFailure): Verdict {
    if (typeof outcome === "string" || outcome.status >= 500) return { kind: "failed" };
    const { status, headers, body, tookMs } = outcome;
    headers.push("x-envoy-upstream-service-time", String(tookMs));
    return status === 200 ? this.#allowed(headers) : this.#denied(status, headers, body);
  }

  #denied(status: number, answer: HeaderList, body: Buffer): Verdict {
    const headers: HeaderList = [];
    for (let i = 0; i < answer.length; i += 2) {
      const name = answer[i]!;
      if (name !== removalHeader && !framing.has(name) && this.#toClient(name)) headers.push(name, answer[i + 1]!);
    }
    return { kind: "denied", status, headers, body: body.toString("latin1"), metadata: this.#metadataOf(answer) };
  }

  #allowed(answer: HeaderList): Verdict {
    const requestHeaders: HeaderChange[] = [];
    const appended: HeaderChange[] = [];
    const responseHeaders: HeaderChange[] = [];
    const requestHeadersToRemove: string[] = [];
    for (let i = 0; i < answer.length; i += 2) {
      const name = answer[i]!;
      const value = answer[i + 1]!;
      if (name === removalHeader) {
        requestHeadersToRemove.push(...value.split(",").flatMap((part) => part.trim().toLowerCase() || []));
        continue;
      }
      if (this.#toUpstream(name)) requestHeaders.push({ action: "set", name, value });
      if (this.#appendedToUpstream(name)) appended.push({ action: "add", name, value });
      if (this.#toClientOnSuccess(name)) responseHeaders.push({ action: "add", name, value });
    }
    return {
      kind: "allowed",
      requestHeaders: [...requestHeaders, ...appended],
      requestHeadersToRemove,
      responseHeaders,
      queryToSet: [],
      queryToRemove: [],
      metadata: this.#metadataOf(answer),
    };
  }

  #metadataOf(answer: HeaderList): Readonly<Record<string, unknown>> | null {
    if (this.#toMetadata === never) return null;
    let fields: Record<string, unknown> | null = null;
    for (let i = 0; i < answer.length; i += 2) {
      if (!this.#toMetadata(answer[i]!)) continue;
      fields ??= {};
      fields[answer[i]!] = answer[i + 1]!;
    }
    return fields;
  }
}

const nothing = Buffer.alloc(0);

/** `never` for an absent or empty list. */
function matchers(list: ListStringMatcher | undefined): StringPredicate {
  return list === undefined || list.patterns.length === 0 ? never : compileStringMatchers(list.patterns);
}
