/**
 * envoy.filters.http.ext_authz: somebody else decides about each request. The filter holds it, with as much of its body as the question
 * is to have, until the authorizer has answered; see http-authorizer.ts and grpc-authorizer.ts.
 */
import { ConfigError } from "../../../../api/config-error.ts";
import {
  type BufferSettings,
  type ExtAuthz,
  type ExtAuthzPerRoute,
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
} from "../../../../api/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { durationMs } from "../../../duration.ts";
import { runtimeFraction } from "../../../fraction.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../../http/http-filter.ts";
import type { HttpStream } from "../../../http/http-stream.ts";
import { type CompiledMetadataMatcher, compileMetadataMatcher } from "../../../router/metadata-matcher.ts";
import { compileStringMatchers } from "../../../router/string-matcher.ts";
import { responseFlags } from "../../../stream-info.ts";
import { type AsyncCall, AsyncClient } from "../../../upstream/async-client.ts";
import { GrpcService } from "../../../upstream/grpc-service.ts";
import { disabledFilter } from "../disabled-filter.ts";
import { AuthorizationStats } from "./authorization-stats.ts";
import type { Allowed, Authorizer, Denied, HeaderChange, Verdict } from "./authorizer.ts";
import { applyToRequest, applyToResponse } from "./changes.ts";
import { GrpcAuthorizer } from "./grpc-authorizer.ts";
import { HttpAuthorizer } from "./http-authorizer.ts";

const metadataNamespace = "envoy.filters.http.ext_authz";
const defaultGrpcTimeoutMs = 200;
const failureHeader = "x-envoy-auth-failure-mode-allowed";

interface BodyOptions {
  readonly maxBytes: number;
  /** A longer body is cut; else it is answered 413. */
  readonly allowsPartial: boolean;
}

function bodyOptions(settings: BufferSettings | undefined): BodyOptions | null {
  if (settings === undefined) return null;
  return { maxBytes: settings.maxRequestBytes, allowsPartial: settings.allowPartialMessage };
}

interface RoutePolicy {
  readonly isDisabled: boolean;
  readonly contextExtensions: { readonly [key: string]: string };
  readonly buffersNoBody: boolean;
  readonly body: BodyOptions | null;
}

/** A request that is being asked about, or was. */
interface Inquiry {
  call: AsyncCall | null;
  /** Waiting for its body. */
  body: BodyOptions | null;
  startedAt: number;
  responseHeaders: readonly HeaderChange[];
}

class ExtAuthzFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;
  readonly #authorizer: Authorizer;
  readonly #stats: AuthorizationStats;
  readonly #chance: number;
  readonly #enabledBy: CompiledMetadataMatcher | null;
  readonly #deniesWhenDisabled: boolean;
  readonly #body: BodyOptions | null;
  readonly #allowsOnFailure: boolean;
  readonly #tellsFailure: boolean;
  readonly #clearsRoute: boolean;
  readonly #errorStatus: number;

  constructor(name: string, config: ExtAuthz, context: FilterCompileContext) {
    this.name = name;
    this.#slot = context.slot;
    this.#authorizer = compileAuthorizer(config, context);
    this.#stats = new AuthorizationStats(config, context);
    this.#chance = runtimeFraction(config.filterEnabled, 1);
    this.#enabledBy = config.filterEnabledMetadata === undefined ? null : compileMetadataMatcher(config.filterEnabledMetadata);
    this.#deniesWhenDisabled = config.denyAtDisable?.defaultValue ?? false;
    this.#body = bodyOptions(config.withRequestBody);
    this.#allowsOnFailure = config.failureModeAllow;
    this.#tellsFailure = config.failureModeAllowHeaderAdd;
    this.#clearsRoute = config.clearRouteCache;
    this.#errorStatus = config.statusOnError?.code || 403;
  }

  onRequestHeaders(stream: HttpStream, endStream: boolean): FilterStatus {
    const policy = stream.perFilterConfig(this.name);
    if (stream.route === null || policy === disabledFilter) return "continue";
    const route = policy as RoutePolicy | undefined;
    if (route?.isDisabled) return "continue";
    if (!this.#isEnabled(stream)) {
      this.#stats.count("disabled");
      if (!this.#deniesWhenDisabled) return "continue";
      this.#refuse(stream);
      return "stop";
    }
    const wanted = route?.body ?? this.#body;
    const body = wanted === null || route?.buffersNoBody || endStream || stream.upgrade !== "" ? null : wanted;
    const inquiry: Inquiry = { call: null, body, startedAt: 0, responseHeaders: [] };
    stream.filterState ??= [];
    stream.filterState[this.#slot] = inquiry;
    if (body === null) this.#ask(stream, inquiry, null, false);
    else if (!body.allowsPartial) stream.heldRequestLimitBytes = body.maxBytes;
    return "stop";
  }

  onHeldRequestData(stream: HttpStream, endStream: boolean): void {
    const inquiry = this.#inquiryOf(stream);
    const { body } = inquiry;
    if (body === null) return;
    const { heldRequest, heldRequestBytes } = stream;
    const isPartial = heldRequestBytes > body.maxBytes;
    if (isPartial && !body.allowsPartial) {
      inquiry.body = null;
      stream.refuseTooLargeRequest();
      return;
    }
    if (!endStream && heldRequestBytes < body.maxBytes) return;
    if (!endStream && !body.allowsPartial) return;
    inquiry.body = null;
    const held = Buffer.concat(heldRequest);
    this.#ask(stream, inquiry, held.subarray(0, body.maxBytes), isPartial);
  }

  onResponseHeaders(stream: HttpStream): FilterStatus {
    const inquiry = stream.filterState?.[this.#slot] as Inquiry | undefined;
    if (inquiry !== undefined && inquiry.responseHeaders.length > 0) applyToResponse(inquiry.responseHeaders, stream.info.responseHeaders);
    return "continue";
  }

  onStreamEnd(stream: HttpStream): void {
    const inquiry = stream.filterState?.[this.#slot] as Inquiry | undefined;
    inquiry?.call?.cancel();
  }

  #inquiryOf(stream: HttpStream): Inquiry {
    return stream.filterState![this.#slot] as Inquiry;
  }

  #isEnabled({ info }: HttpStream): boolean {
    if (this.#chance < 1 && Math.random() >= this.#chance) return false;
    const by = this.#enabledBy;
    return by === null || by.test(info.dynamicMetadata?.get(by.namespace));
  }

  #ask(stream: HttpStream, inquiry: Inquiry, body: Buffer | null, bodyIsPartial: boolean): void {
    inquiry.startedAt = performance.now();
    const question = { stream, body, bodyIsPartial, contextExtensions: extensionsOf(stream, this.name) };
    inquiry.call = this.#authorizer.ask(question, (verdict) => {
      inquiry.call = null;
      if (stream.isEnded) return;
      stream.connection.now = performance.now();
      this.#conclude(stream, inquiry, verdict);
    });
  }

  #conclude(stream: HttpStream, inquiry: Inquiry, verdict: Verdict): void {
    switch (verdict.kind) {
      case "allowed":
        this.#allow(stream, inquiry, verdict);
        return;
      case "denied":
        this.#deny(stream, verdict);
        return;
      case "failed":
        this.#stats.countFor(stream, "error");
        if (!this.#allowsOnFailure) {
          this.#refuse(stream);
          return;
        }
        this.#stats.countFor(stream, "failure_mode_allowed");
        if (this.#tellsFailure) stream.info.requestHeaders.push(failureHeader, "true");
        stream.continueRequest();
        return;
      default:
        verdict satisfies never;
    }
  }

  #allow(stream: HttpStream, inquiry: Inquiry, verdict: Allowed): void {
    const { info } = stream;
    if (verdict.metadata !== null && Object.keys(verdict.metadata).length > 0) {
      note(stream, verdict.metadata);
      info.setDynamicMetadata(metadataNamespace, "ext_authz_duration", Math.floor(performance.now() - inquiry.startedAt));
    }
    const changed = applyToRequest(verdict, info);
    if (changed && this.#clearsRoute) stream.clearRouteCache();
    inquiry.responseHeaders = verdict.responseHeaders;
    this.#stats.countFor(stream, "ok");
    stream.continueRequest();
  }

  #deny(stream: HttpStream, { status, body, headers, metadata }: Denied): void {
    if (metadata !== null) note(stream, metadata);
    this.#stats.countFor(stream, "denied");
    this.#stats.chargeCluster(stream, status);
    stream.info.flags |= responseFlags.UnauthorizedExternalService;
    stream.sendLocalReply(status, body, "ext_authz_denied", headers);
  }

  #refuse(stream: HttpStream): void {
    stream.info.flags |= responseFlags.UnauthorizedExternalService;
    stream.sendLocalReply(this.#errorStatus, "", "ext_authz_error");
  }
}

function note({ info }: HttpStream, metadata: Readonly<Record<string, unknown>>): void {
  for (const [key, value] of Object.entries(metadata)) info.setDynamicMetadata(metadataNamespace, key, value);
}

const noExtensions: { readonly [key: string]: string } = {};

/** Those of all levels together; the more specific ones win. */
function extensionsOf(stream: HttpStream, name: string): { readonly [key: string]: string } {
  let merged = noExtensions;
  for (const policy of stream.perFilterConfigs(name)) {
    if (policy === disabledFilter) continue;
    const { contextExtensions } = policy as RoutePolicy;
    merged = merged === noExtensions ? contextExtensions : { ...merged, ...contextExtensions };
  }
  return merged;
}

function compileAuthorizer(config: ExtAuthz, context: FilterCompileContext): Authorizer {
  const list = (matcher: ExtAuthz["allowedHeaders"]) => (matcher === undefined ? null : compileStringMatchers(matcher.patterns));
  const allowed = list(config.allowedHeaders);
  const disallowed = list(config.disallowedHeaders);
  switch (config.services.case) {
    case "httpService":
      return new HttpAuthorizer(config.services.value, allowed, disallowed, new AsyncClient(context.clusters));
    case "grpcService":
      return new GrpcAuthorizer(
        new GrpcService(config.services.value, context.clusters, durationMs(config.services.value.timeout, defaultGrpcTimeoutMs)),
        {
          isWanted: (name) => !(disallowed?.(name) ?? false) && (allowed?.(name) ?? true),
          includesCertificate: config.includePeerCertificate,
          includesTlsSession: config.includeTlsSession,
          sendsRawHeaders: config.encodeRawHeaders,
          bodyIsBinary: config.withRequestBody?.packAsBytes ?? false,
          namespaces: config.metadataContextNamespaces,
          routeNamespaces: config.routeMetadataContextNamespaces,
        },
      );
    default:
      throw new ConfigError("ExtAuthz: services: value is required");
  }
}

function compileRoutePolicy({ override }: ExtAuthzPerRoute): RoutePolicy {
  if (override.case === "disabled") return { isDisabled: true, contextExtensions: {}, buffersNoBody: false, body: null };
  if (override.case === undefined) throw new ConfigError("ExtAuthzPerRoute: override: value is required");
  const { contextExtensions, disableRequestBodyBuffering, withRequestBody } = override.value;
  if (disableRequestBodyBuffering && withRequestBody !== undefined) {
    throw new ConfigError(
      "Invalid configuration for check_settings. Only one of disable_request_body_buffering or with_request_body can be set.",
    );
  }
  return { isDisabled: false, contextExtensions, buffersNoBody: disableRequestBodyBuffering, body: bodyOptions(withRequestBody) };
}

export const extAuthz = defineHttpFilter({
  name: "envoy.filters.http.ext_authz",
  schema: ExtAuthzSchema,
  create: (config, context, name) => new ExtAuthzFilter(name, config, context),
  perRoute: { schema: ExtAuthzPerRouteSchema, compile: compileRoutePolicy },
});
