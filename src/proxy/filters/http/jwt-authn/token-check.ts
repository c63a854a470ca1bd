/**
 * Judges the tokens of one request for one requirement. All of them must be good, or a bad one that came along would be taken for the
 * good one by whom the request reaches; only where failures are allowed the last one judged decides. The last found is judged first.
 */

import { valueAt } from "../../../router/metadata-matcher.ts";
import { claimText, withSplitClaims } from "./claims.ts";
import type { Jwt } from "./jwt.ts";
import { checkTime, parseJwt } from "./jwt.ts";
import type { KeySet } from "./key-source.ts";
import { allowsAudience, type Provider } from "./provider.ts";
import { type JwtStatus, jwtStatus } from "./status.ts";
import { type FoundToken, removeToken } from "./token-locations.ts";
import type { Verification } from "./verification.ts";
import { verifySignature } from "./verify-signature.ts";

export type Done = (verification: Verification, status: JwtStatus) => void;

/** The providers of one filter. */
export interface Providers {
  /** The first of that issuer, else the first for any issuer. */
  byIssuer(issuer: string): Provider | null;
  /** When there is but one. */
  readonly single: Provider | null;
  /** Counts the look-ups of tokens that were judged before. */
  countLookup(isHit: boolean): void;
}

export interface TokenRules {
  readonly providers: Providers;
  /** null: the token's issuer says whose it is. */
  readonly provider: Provider | null;
  /** Instead of the provider's own. */
  readonly audiences: ReadonlySet<string> | null;
  readonly allowsFailed: boolean;
  readonly allowsMissing: boolean;
}

const cacheSkewSeconds = 60;
/** What no header value may hold. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const invalidValue = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** Calls `done` once: before it returns, or later where keys must be fetched or a slow signature verified. */
export function checkTokens(verification: Verification, tokens: readonly FoundToken[], rules: TokenRules, done: Done): void {
  if (tokens.length > 0) {
    new TokenCheck(verification, tokens, rules, done).next();
    return;
  }
  verification.noteFailure(rules.providers.single?.failureMetadataKey ?? "", jwtStatus.missing);
  done(verification, rules.allowsFailed || rules.allowsMissing ? jwtStatus.ok : jwtStatus.missing);
}

class TokenCheck {
  readonly #verification: Verification;
  readonly #tokens: readonly FoundToken[];
  readonly #rules: TokenRules;
  readonly #done: Done;
  #left: number;
  /** Whose the token is; where that can't be told, whose the one before was. */
  #provider: Provider | null;

  constructor(verification: Verification, tokens: readonly FoundToken[], rules: TokenRules, done: Done) {
    this.#verification = verification;
    this.#tokens = tokens;
    this.#rules = rules;
    this.#done = done;
    this.#left = tokens.length;
    this.#provider = rules.provider;
  }

  next(): void {
    const found = this.#tokens[--this.#left]!;
    const { nowSeconds } = this.#verification;
    const jwt = this.#knownToken(found.token) ?? parseJwt(found.token);
    if ("text" in jwt) {
      this.#decided(jwt);
      return;
    }
    const { issuers } = found.place;
    if (issuers !== null && !issuers.has(jwt.iss)) {
      this.#decided(jwtStatus.unknownIssuer);
      return;
    }
    const provider = this.#rules.provider ?? this.#rules.providers.byIssuer(jwt.iss);
    this.#provider = provider;
    const failure = provider === null ? jwtStatus.unknownIssuer : this.#checkClaims(jwt, provider, nowSeconds);
    if (provider === null || failure !== jwtStatus.ok) {
      this.#decided(failure);
      return;
    }
    const { keys } = provider;
    const fresh = keys.fresh;
    if (fresh !== null) this.#verify(found, jwt, provider, fresh);
    else if (!keys.canFetch) this.#decided(jwtStatus.noValidKeys);
    else {
      keys.fetch((fetched) => {
        if (this.#verification.stream.isEnded) return;
        if (fetched === null) this.#decided(jwtStatus.fetchFailed);
        else this.#verify(found, jwt, provider, fetched);
      });
    }
  }

  /** Judged before and not expired since. */
  #knownToken(token: string): Jwt | undefined {
    const { provider, providers } = this.#rules;
    if (provider === null) return undefined;
    const verified = provider.keys.known?.verified;
    let jwt = verified?.get(token);
    if (jwt !== undefined && checkTime(jwt, this.#verification.nowSeconds, cacheSkewSeconds) === jwtStatus.expired) {
      verified!.delete(token);
      jwt = undefined;
    }
    providers.countLookup(jwt !== undefined && provider.countsCacheHits);
    return jwt;
  }

  #checkClaims(jwt: Jwt, provider: Provider, nowSeconds: number): JwtStatus {
    const inTime = checkTime(jwt, nowSeconds, provider.clockSkewSeconds);
    if (inTime !== jwtStatus.ok) return inTime;
    if (!allowsAudience(this.#rules.audiences ?? provider.audiences, jwt.audiences)) return jwtStatus.audienceNotAllowed;
    if (!provider.allowsSubject(jwt.sub) || !provider.allowsLifetime(jwt, nowSeconds)) return jwtStatus.verificationFailed;
    return jwtStatus.ok;
  }

  #verify(found: FoundToken, jwt: Jwt, provider: Provider, { keys, verified }: KeySet): void {
    if (verified.get(found.token) !== undefined) {
      this.#accept(found, jwt, provider);
      return;
    }
    verifySignature(jwt, keys, (status) => {
      if (this.#verification.stream.isEnded) return;
      if (status !== jwtStatus.ok) {
        this.#decided(status);
        return;
      }
      // A cache whose hits are counted is filled as Envoy fills it.
      if (this.#rules.provider !== null || !provider.countsCacheHits) verified.add(found.token, jwt);
      this.#accept(found, jwt, provider);
    });
  }

  #accept({ place }: FoundToken, jwt: Jwt, provider: Provider): void {
    const verification = this.#verification;
    const { info } = verification.stream;
    const headers = info.requestHeaders;
    if (provider.payloadHeader !== "") {
      const { payloadText } = jwt;
      const padding = provider.padsPayloadHeader ? "=".repeat((4 - (payloadText.length % 4)) % 4) : "";
      headers.push(provider.payloadHeader, payloadText + padding);
    }
    let hasAdded = false;
    for (const { header, path } of provider.claimHeaders) {
      const text = claimText(valueAt(jwt.payload, path));
      if (text === "") continue;
      hasAdded = true;
      if (!invalidValue.test(text)) headers.push(header, text);
      else if (verification.invalidHeader === "") verification.invalidHeader = header;
    }
    if (provider.clearsRouteCache && (hasAdded || provider.payloadMetadataKey !== "")) verification.clearsRouteCache = true;
    if (!provider.forwardsToken) removeToken(place, info);
    if (provider.headerMetadataKey !== "") verification.note(provider.headerMetadataKey, jwt.header);
    if (provider.payloadMetadataKey !== "") {
      const { splitClaims } = provider;
      verification.note(provider.payloadMetadataKey, splitClaims.length === 0 ? jwt.payload : withSplitClaims(jwt.payload, splitClaims));
    }
    this.#decided(jwtStatus.ok);
  }

  /** Of the present token; goes on to the next, or ends. */
  #decided(status: JwtStatus): void {
    const { providers, allowsFailed, allowsMissing } = this.#rules;
    if (status !== jwtStatus.ok) {
      this.#verification.noteFailure((this.#provider ?? providers.single)?.failureMetadataKey ?? "", status);
    }
    const goesOn = this.#left > 0 && (status === jwtStatus.ok || allowsFailed || allowsMissing);
    if (goesOn) this.next();
    else this.#done(this.#verification, allowsFailed ? jwtStatus.ok : status);
  }
}
