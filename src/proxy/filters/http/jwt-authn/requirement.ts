/**
 * envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement, compiled to a tree: the leaves judge tokens, `requires_any` and
 * `requires_all` make one verdict of several. Every leaf first removes the headers that it may set, so that no client sets them.
 */
import { ConfigError } from "../../../../api/config-error.ts";
import type { JwtProvider, JwtRequirement } from "../../../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { removeHeader, removeHeaders } from "../../../http/header-list.ts";
import { compileAudiences, type Provider } from "./provider.ts";
import { type JwtStatus, jwtStatus } from "./status.ts";
import { checkTokens, type Done, type Providers, type TokenRules } from "./token-check.ts";
import { compileTokenLocations, findTokens, type TokenLocations } from "./token-locations.ts";
import type { Verification } from "./verification.ts";

export interface Requirement {
  /** Calls `done` once, at once or later. */
  verify(verification: Verification, done: Done): void;
}

export interface RequirementContext {
  readonly providers: Providers;
  readonly compiled: ReadonlyMap<string, Provider>;
  readonly messages: { readonly [name: string]: JwtProvider };
}

/** Throws ConfigError. */
export function compileRequirement(message: JwtRequirement, context: RequirementContext): Requirement {
  const { requiresType } = message;
  switch (requiresType.case) {
    case "providerName":
      return compileProvider(requiresType.value, [], context);
    case "providerAndAudiences":
      return compileProvider(requiresType.value.providerName, requiresType.value.audiences, context);
    case "requiresAny":
      return compileAny(requiresType.value.requirements, context);
    case "requiresAll":
      return new All(requiresType.value.requirements.map((inner) => compileRequirement(inner, context)));
    case "allowMissingOrFailed":
      return compileAnyProvider(context, { allowsFailed: true });
    case "allowMissing":
      return compileAnyProvider(context, { allowsFailed: false });
    case "extractOnlyWithoutValidation": {
      const header = requiresType.value.verificationStatusHeader.toLowerCase() || "x-jwt-signature-verified";
      return new Never(compileAnyProvider(context, { allowsFailed: false }), header);
    }
    case undefined:
      return nothing;
    default:
      return requiresType satisfies never;
  }
}

const nothing: Requirement = { verify: (verification, done) => done(verification, jwtStatus.ok) };

function compileProvider(name: string, audiences: readonly string[], context: RequirementContext): Requirement {
  const provider = context.compiled.get(name);
  if (provider === undefined) throw new ConfigError(`Required provider ['${name}'] is not configured.`);
  const rules: TokenRules = {
    providers: context.providers,
    provider,
    audiences: audiences.length === 0 ? null : compileAudiences(audiences),
    allowsFailed: false,
    allowsMissing: false,
  };
  return new Tokens(compileTokenLocations([context.messages[name]!]), headersOf([provider]), rules);
}

function compileAnyProvider(context: RequirementContext, { allowsFailed }: { readonly allowsFailed: boolean }): Requirement {
  const rules: TokenRules = { providers: context.providers, provider: null, audiences: null, allowsFailed, allowsMissing: true };
  return new Tokens(compileTokenLocations(Object.values(context.messages)), headersOf([...context.compiled.values()]), rules);
}

/** Names of the headers that these providers set. */
export function headersOf(providers: readonly Provider[]): ReadonlySet<string> {
  const names = providers.flatMap(({ payloadHeader, claimHeaders }) => [payloadHeader, ...claimHeaders.map(({ header }) => header)]);
  return new Set(names.filter((name) => name !== ""));
}

class Tokens implements Requirement {
  readonly #locations: TokenLocations;
  readonly #headers: ReadonlySet<string>;
  readonly #rules: TokenRules;

  constructor(locations: TokenLocations, headers: ReadonlySet<string>, rules: TokenRules) {
    this.#locations = locations;
    this.#headers = headers;
    this.#rules = rules;
  }

  verify(verification: Verification, done: Done): void {
    const { info } = verification.stream;
    if (this.#headers.size > 0) removeHeaders(info.requestHeaders, this.#headers);
    checkTokens(verification, findTokens(this.#locations, info), this.#rules, done);
  }
}

/** `extract_only_without_validation`: whatever comes of the tokens, the request goes on; a header says that one was bad. */
class Never implements Requirement {
  readonly #inner: Requirement;
  readonly #header: string;

  constructor(inner: Requirement, header: string) {
    this.#inner = inner;
    this.#header = header;
  }

  verify(verification: Verification, done: Done): void {
    this.#inner.verify(verification, (same, status) => {
      if (status !== jwtStatus.ok) {
        const { requestHeaders } = same.stream.info;
        removeHeader(requestHeaders, this.#header);
        requestHeaders.push(this.#header, "false");
      }
      done(same, jwtStatus.ok);
    });
  }
}

class All implements Requirement {
  readonly #parts: readonly Requirement[];

  constructor(parts: readonly Requirement[]) {
    this.#parts = parts;
  }

  /** All are begun, the slow ones side by side; the first failure is the verdict. */
  verify(verification: Verification, done: Done): void {
    let left = this.#parts.length;
    let isOver = false;
    for (const part of this.#parts) {
      if (isOver) return;
      part.verify(verification, (_, status) => {
        if (isOver) return;
        left--;
        isOver = left === 0 || status !== jwtStatus.ok;
        if (isOver) done(verification, status);
      });
    }
  }
}

function compileAny(requirements: readonly JwtRequirement[], context: RequirementContext): Requirement {
  const isAllowance = ({ requiresType }: JwtRequirement) =>
    requiresType.case === "allowMissing" || requiresType.case === "allowMissingOrFailed";
  const allowsFailed = requirements.some(({ requiresType }) => requiresType.case === "allowMissingOrFailed");
  const allowsMissing = requirements.some(isAllowance);
  const parts = requirements.filter((inner) => !isAllowance(inner)).map((inner) => compileRequirement(inner, context));
  // Nothing but allowances: they are for tokens of any provider.
  if (parts.length === 0) parts.push(compileAnyProvider(context, { allowsFailed }));
  return new Any(parts, allowsFailed, allowsMissing);
}

class Any implements Requirement {
  readonly #parts: readonly Requirement[];
  readonly #allowsFailed: boolean;
  readonly #allowsMissing: boolean;

  constructor(parts: readonly Requirement[], allowsFailed: boolean, allowsMissing: boolean) {
    this.#parts = parts;
    this.#allowsFailed = allowsFailed;
    this.#allowsMissing = allowsMissing;
  }

  /** The first success ends it, all failures together make one. */
  verify(verification: Verification, done: Done): void {
    const statuses: JwtStatus[] = [];
    let left = this.#parts.length;
    let isOver = false;
    for (const [index, part] of this.#parts.entries()) {
      if (isOver) return;
      part.verify(verification, (_, status) => {
        if (isOver) return;
        statuses[index] = status;
        left--;
        isOver = left === 0 || status === jwtStatus.ok;
        if (isOver) done(verification, status === jwtStatus.ok ? status : this.#conclude(statuses));
      });
    }
  }

  /** The last failure that says more than that there is no token of that provider. */
  #conclude(statuses: readonly JwtStatus[]): JwtStatus {
    let verdict: JwtStatus = jwtStatus.missing;
    for (const status of statuses) {
      const saysMore = status !== jwtStatus.missing && status !== jwtStatus.unknownIssuer;
      if (saysMore || verdict === jwtStatus.missing) verdict = status;
    }
    return this.#allowsFailed || (this.#allowsMissing && verdict === jwtStatus.missing) ? jwtStatus.ok : verdict;
  }
}
