/**
 * envoy.filters.http.jwt_authn: lets requests pass whose JSON Web Tokens are as the rules want them, and answers the others 401 (403 for
 * a token that is meant for somebody else). What a good token says goes on as headers and as metadata under the filter's name, by which
 * RBAC judges and routes are chosen.
 *
 *      rules, first match -> requirement (requirement.ts) -> tokens of the request (token-locations.ts)
 *        -> each token: parsed, issuer, time, audience, subject (token-check.ts) -> signature (key-source.ts, verify-signature.ts)
 *
 * Nearly all of it is done within the call. Only keys that must be fetched and signatures of slow algorithms stop the request.
 */
import { ConfigError } from "../../../../api/config-error.ts";
import {
  type JwtAuthentication,
  JwtAuthenticationSchema,
  type JwtRequirement,
  type PerRouteConfig,
  PerRouteConfigSchema,
} from "../../../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { getHeader, removeHeaders } from "../../../http/header-list.ts";
import { defineHttpFilter, type FilterCompileContext, type FilterStatus, type HttpFilter } from "../../../http/http-filter.ts";
import type { HttpStream } from "../../../http/http-stream.ts";
import type { RouteCondition } from "../../../router/header-matcher.ts";
import { compileRequestMatch } from "../../../router/route.ts";
import type { StatIndex, StatsStore } from "../../../stats/store.ts";
import { filterStateOf, responseFlags } from "../../../stream-info.ts";
import { AsyncClient } from "../../../upstream/async-client.ts";
import { disabledFilter } from "../disabled-filter.ts";
import { Provider } from "./provider.ts";
import { compileRequirement, headersOf, type Requirement } from "./requirement.ts";
import { jwtStatus } from "./status.ts";
import type { Done, Providers } from "./token-check.ts";
import { Verification } from "./verification.ts";

const statNames = [
  "allowed",
  "cors_preflight_bypassed",
  "denied",
  "jwks_fetch_failed",
  "jwks_fetch_success",
  "jwt_cache_hit",
  "jwt_cache_miss",
] as const;

const metadataNamespace = "envoy.filters.http.jwt_authn";

interface Rule {
  readonly matches: RouteCondition;
  /** null: no token is wanted. */
  readonly requirement: Requirement | null;
}

/** `typed_per_filter_config`: the name of a requirement, or null for none. */
interface RoutePolicy {
  readonly requirementName: string | null;
}

class JwtAuthnFilter implements HttpFilter {
  readonly name: string;
  readonly #stats: StatsStore;
  readonly #at: Readonly<Record<(typeof statNames)[number], StatIndex>>;
  readonly #providers: ReadonlyMap<string, Provider>;
  readonly #rules: readonly Rule[];
  readonly #named: ReadonlyMap<string, Requirement>;
  /** By what another filter has left on the stream; null where that is not configured. */
  readonly #byFilterState: { readonly key: string; readonly requirements: ReadonlyMap<string, Requirement> } | null;
  readonly #bypassesPreflights: boolean;
  readonly #stripsReasons: boolean;
  /** Headers that only this filter may set. */
  readonly #ownHeaders: ReadonlySet<string>;
  readonly #onDone: Done = (verification, status) => {
    verification.status = status;
    if (verification.isHeld) this.#resume(verification);
  };

  constructor(name: string, config: JwtAuthentication, context: FilterCompileContext) {
    this.name = name;
    this.#stats = context.stats;
    const prefix = `${context.statPrefix}jwt_authn.${config.statPrefix === "" ? "" : `${config.statPrefix}.`}`;
    const at: Record<string, StatIndex> = {};
    for (const stat of statNames) at[stat] = context.stats.counter(prefix + stat);
    this.#at = at as Record<(typeof statNames)[number], StatIndex>;

    const client = new AsyncClient(context.clusters);
    const onFetched = (isSuccess: boolean) => this.#count(isSuccess ? "jwks_fetch_success" : "jwks_fetch_failed");
    const providers = new Map<string, Provider>();
    for (const [key, message] of Object.entries(config.providers)) providers.set(key, new Provider(key, message, client, onFetched));
    this.#providers = providers;
    this.#ownHeaders = headersOf([...providers.values()]);

    const requirements = { providers: this.#index(), compiled: providers, messages: config.providers };
    const compileAll = (messages: { readonly [key: string]: JwtRequirement }) =>
      new Map(Object.entries(messages).map(([key, message]) => [key, compileRequirement(message, requirements)]));
    this.#named = compileAll(config.requirementMap);
    this.#rules = config.rules.map(({ match, requirementType }) => {
      if (match === undefined) throw new ConfigError("RequirementRule: match: value is required");
      const matches = compileRequestMatch(match);
      switch (requirementType.case) {
        case "requires":
          return { matches, requirement: compileRequirement(requirementType.value, requirements) };
        case "requirementName":
          return { matches, requirement: this.#requirementOf(requirementType.value) };
        default:
          return { matches, requirement: null };
      }
    });
    const stateRules = config.filterStateRules;
    this.#byFilterState = stateRules === undefined ? null : { key: stateRules.name, requirements: compileAll(stateRules.requires) };
    this.#bypassesPreflights = config.bypassCorsPreflight;
    this.#stripsReasons = config.stripFailureResponse;
  }

  #index(): Providers {
    const all = [...this.#providers.values()];
    const byIssuer = new Map<string, Provider>();
    for (const provider of all) if (!byIssuer.has(provider.issuer)) byIssuer.set(provider.issuer, provider);
    return {
      byIssuer: (issuer) => byIssuer.get(issuer) ?? byIssuer.get("") ?? null,
      single: all.length === 1 ? all[0]! : null,
      countLookup: (isHit) => this.#count(isHit ? "jwt_cache_hit" : "jwt_cache_miss"),
    };
  }

  #requirementOf(name: string): Requirement {
    const requirement = this.#named.get(name);
    if (requirement === undefined) throw new ConfigError(this.#unknownName(name));
    return requirement;
  }

  #unknownName(name: string): string {
    return `Wrong requirement_name: ${name}. It should be one of [${[...this.#named.keys()].sort().join(",")}]`;
  }

  start(): Promise<void> | undefined {
    const waits = [...this.#providers.values()].map(({ keys }) => keys.start()).filter((wait) => wait !== undefined);
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  dispose(): void {
    for (const { keys } of this.#providers.values()) keys.dispose();
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const policy = stream.perFilterConfig(this.name);
    if (policy === disabledFilter) return "continue";
    const { info } = stream;
    if (this.#ownHeaders.size > 0) removeHeaders(info.requestHeaders, this.#ownHeaders);
    if (this.#bypassesPreflights && isPreflight(stream)) {
      this.#count("cors_preflight_bypassed");
      this.#count("allowed");
      return "continue";
    }
    let requirement: Requirement | null;
    if (policy === undefined) requirement = this.#ruleFor(stream);
    else {
      const { requirementName } = policy as RoutePolicy;
      const named = requirementName === null ? null : this.#named.get(requirementName);
      if (named === undefined) {
        this.#refuseRoute(stream, requirementName!);
        return "stop";
      }
      requirement = named;
    }
    if (requirement === null) {
      this.#count("allowed");
      return "continue";
    }
    const verification = new Verification(stream);
    requirement.verify(verification, this.#onDone);
    if (verification.status !== null) return this.#conclude(verification) ? "continue" : "stop";
    verification.isHeld = true;
    return "stop";
  }

  #ruleFor({ info }: HttpStream): Requirement | null {
    for (const { matches, requirement } of this.#rules) if (matches(info)) return requirement;
    const byState = this.#byFilterState;
    if (byState === null) return null;
    const state = filterStateOf(info, byState.key);
    return state === undefined ? null : (byState.requirements.get(state) ?? null);
  }

  #refuseRoute(stream: HttpStream, requirementName: string): void {
    this.#count("denied");
    const reason = this.#unknownName(requirementName);
    stream.sendLocalReply(403, this.#stripsReasons ? "" : `Failed JWT authentication: ${reason}`, detailsOf(reason));
  }

  #resume(verification: Verification): void {
    const { stream } = verification;
    if (stream.isEnded) return;
    stream.connection.now = performance.now();
    if (this.#conclude(verification)) stream.continueRequest();
  }

  /** Acts on the verdict. False: the request was answered. */
  #conclude(verification: Verification): boolean {
    const { stream, metadata, invalidHeader } = verification;
    const status = verification.status!;
    if (metadata !== null) {
      for (const [key, value] of metadata) stream.info.setDynamicMetadata(metadataNamespace, key, value);
    }
    if (verification.clearsRouteCache) stream.clearRouteCache();
    if (!verification.isGood) {
      this.#count("denied");
      const httpStatus = status === jwtStatus.audienceNotAllowed ? 403 : 401;
      if (this.#stripsReasons) stream.sendLocalReply(httpStatus, "", detailsOf(status.text));
      else {
        const error = status === jwtStatus.missing ? "" : ', error="invalid_token"';
        const realm = `Bearer realm="${originalUri(verification)}"${error}`;
        stream.sendLocalReply(httpStatus, status.text, detailsOf(status.text), ["www-authenticate", realm]);
      }
      return false;
    }
    this.#count("allowed");
    if (invalidHeader === "") return true;
    stream.info.flags |= responseFlags.DownstreamProtocolError;
    const reason = `invalid header value for: ${invalidHeader}`;
    stream.sendLocalReply(503, reason, `filter_removed_required_request_headers{${reason.replaceAll(" ", "_")}}`);
    return false;
  }

  #count(stat: (typeof statNames)[number]): void {
    this.#stats.add(this.#at[stat], 1);
  }
}

function isPreflight({ info }: HttpStream): boolean {
  return (
    info.method === "OPTIONS" &&
    (getHeader(info.requestHeaders, "origin") ?? "") !== "" &&
    (getHeader(info.requestHeaders, "access-control-request-method") ?? "") !== ""
  );
}

function detailsOf(reason: string): string {
  return `jwt_authn_access_denied{${reason.replaceAll(" ", "_")}}`;
}

const maxPathLength = 256;

function originalUri({ stream: { info }, path }: Verification): string {
  const asked = getHeader(info.requestHeaders, "x-envoy-original-path") ?? path;
  return `${info.scheme}://${info.authority}${asked.slice(0, maxPathLength)}`;
}

function compileRoutePolicy({ requirementSpecifier }: PerRouteConfig): RoutePolicy {
  switch (requirementSpecifier.case) {
    case "disabled":
      return { requirementName: null };
    case "requirementName":
      return { requirementName: requirementSpecifier.value };
    default:
      throw new ConfigError("PerRouteConfig: requirement_specifier: value is required");
  }
}

export const jwtAuthn = defineHttpFilter({
  name: "envoy.filters.http.jwt_authn",
  schema: JwtAuthenticationSchema,
  create: (config, context, name) => new JwtAuthnFilter(name, config, context),
  perRoute: { schema: PerRouteConfigSchema, compile: compileRoutePolicy },
});
