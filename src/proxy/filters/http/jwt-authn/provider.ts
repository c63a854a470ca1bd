/** envoy.extensions.filters.http.jwt_authn.v3.JwtProvider, compiled: what makes a token good, and what becomes of a good one. */
import { ConfigError } from "../../../../api/config-error.ts";
import type { RetryPolicy as RetryPolicyMessage } from "../../../../api/gen/envoy/config/core/v3/base_pb.js";
import type { JwtProvider, RemoteJwks } from "../../../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { readDataSource } from "../../../data-source.ts";
import { durationMs } from "../../../duration.ts";
import { type RetryPolicy, retryOnBits } from "../../../router/retry-policy.ts";
import { compileStringMatcher, type StringPredicate } from "../../../router/string-matcher.ts";
import type { AsyncClient, AsyncRequest } from "../../../upstream/async-client.ts";
import type { ClaimPath } from "./claims.ts";
import { parseJwks } from "./jwks.ts";
import type { Jwt } from "./jwt.ts";
import { type CacheLimits, type KeySource, keySetOf, localKeys, RemoteKeys } from "./key-source.ts";

export class Provider {
  readonly name: string;
  readonly issuer: string;
  readonly keys: KeySource;
  /** The user asked for a cache of tokens, and is told how often it helped. */
  readonly countsCacheHits: boolean;
  readonly clockSkewSeconds: number;
  readonly audiences: ReadonlySet<string>;
  readonly forwardsToken: boolean;
  /** "" for none. */
  readonly payloadHeader: string;
  readonly padsPayloadHeader: boolean;
  readonly claimHeaders: readonly { readonly header: string; readonly path: ClaimPath }[];
  readonly payloadMetadataKey: string;
  readonly headerMetadataKey: string;
  readonly failureMetadataKey: string;
  readonly splitClaims: readonly string[];
  readonly clearsRouteCache: boolean;
  readonly #subjects: StringPredicate | null;
  readonly #needsExpiry: boolean;
  /** Infinity: any. */
  readonly #maxLifetimeSeconds: number;

  constructor(name: string, config: JwtProvider, client: AsyncClient, onFetched: (isSuccess: boolean) => void) {
    this.name = name;
    this.issuer = config.issuer;
    this.countsCacheHits = config.jwtCacheConfig !== undefined;
    this.keys = compileKeys(name, config, client, onFetched);
    this.clockSkewSeconds = config.clockSkewSeconds || defaultClockSkewSeconds;
    this.audiences = compileAudiences(config.audiences);
    this.forwardsToken = config.forward;
    this.payloadHeader = headerName(name, config.forwardPayloadHeader);
    this.padsPayloadHeader = config.padForwardPayloadHeader;
    this.claimHeaders = config.claimToHeaders.map(({ headerName: header, claimName, claimPath }) => {
      if ((claimName === "") === (claimPath.length === 0)) {
        throw new ConfigError(
          `Provider '${name}' has a claim_to_headers entry for header '${header}' which does not set exactly one of claim_name and claim_path`,
        );
      }
      return {
        header: headerName(name, header),
        path: claimName === "" ? claimPath.map(({ key }) => key) : claimName.split("."),
      };
    });
    this.payloadMetadataKey = config.payloadInMetadata;
    this.headerMetadataKey = config.headerInMetadata;
    this.failureMetadataKey = config.failedStatusInMetadata;
    this.splitClaims = config.normalizePayloadInMetadata?.spaceDelimitedClaims ?? [];
    this.clearsRouteCache = config.clearRouteCache;
    this.#subjects = config.subjects === undefined ? null : compileStringMatcher(config.subjects);
    this.#needsExpiry = config.requireExpiration || config.maxLifetime !== undefined;
    this.#maxLifetimeSeconds = durationMs(config.maxLifetime, Number.POSITIVE_INFINITY) / 1000;
  }

  allowsSubject(subject: string): boolean {
    return this.#subjects === null || this.#subjects(subject);
  }

  allowsLifetime({ exp }: Jwt, nowSeconds: number): boolean {
    return !this.#needsExpiry || (exp !== 0 && exp - nowSeconds < this.#maxLifetimeSeconds);
  }
}

const defaultClockSkewSeconds = 60;

/** Envoy lets pseudo headers be named here, and sends on what is no request any more. */
function headerName(provider: string, written: string): string {
  const name = written.toLowerCase();
  if (name.startsWith(":") || name === "host") {
    throw new ConfigError(`Provider '${provider}': header '${written}' can't be set from a token by this proxy`);
  }
  return name;
}

/** Without scheme and closing slash, in which many a token differs from its configuration. */
export function compileAudiences(audiences: readonly string[]): ReadonlySet<string> {
  return new Set(audiences.map(plainAudience));
}

export function allowsAudience(allowed: ReadonlySet<string>, audiences: readonly string[]): boolean {
  return allowed.size === 0 || audiences.some((audience) => allowed.has(plainAudience(audience)));
}

function plainAudience(audience: string): string {
  return audience.replace(/^https?:\/\//, "").replace(/\/$/, "");
}

// --- keys ---

const defaultMaxTokens = 100;
const defaultMaxTokenLength = 4096;
/** Without a cache of the user's own: what this proxy remembers for its own sake. */
const ownMaxTokens = 1000;

function compileKeys(name: string, config: JwtProvider, client: AsyncClient, onFetched: (isSuccess: boolean) => void): KeySource {
  const cache = config.jwtCacheConfig;
  const limits: CacheLimits = {
    maxTokens: cache === undefined ? ownMaxTokens : cache.jwtCacheSize || defaultMaxTokens,
    maxTokenLength: cache?.jwtMaxTokenSize || defaultMaxTokenLength,
  };
  const source = config.jwksSourceSpecifier;
  switch (source.case) {
    case "localJwks": {
      const text = readDataSource(source.value);
      if (text === null || text.length === 0) return localKeys(null);
      const keys = parseJwks(text);
      if (typeof keys === "string") throw new ConfigError(`Provider '${name}' in jwt_authn config has invalid local jwks: ${keys}`);
      return localKeys(keySetOf(keys, limits));
    }
    case "remoteJwks":
      return compileRemote(name, source.value, limits, client, onFetched);
    default:
      throw new ConfigError("JwtProvider: jwks_source_specifier: value is required");
  }
}

const defaultCacheDurationMs = 600_000;
const defaultFailedRefetchMs = 1000;
/** Authority, its port, and the rest. The scheme says nothing: whether TLS is spoken is the cluster's business. */
const uriParts = /^[a-z][a-z0-9+.-]*:\/\/((?:[^\s@/?#]*@)?(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?)([/?][\x21-\x7e]*)?$/i;
/** Far more than any issuer's keys. */
const maxJwksBytes = 1024 * 1024;

function compileRemote(
  name: string,
  config: RemoteJwks,
  cacheLimits: CacheLimits,
  client: AsyncClient,
  onFetched: (isSuccess: boolean) => void,
): KeySource {
  const uri = config.httpUri;
  if (uri === undefined) throw new ConfigError("RemoteJwks: http_uri: value is required");
  const cluster = uri.httpUpstreamType.case === "cluster" ? uri.httpUpstreamType.value : "";
  const retryPolicy = compileRetry(config.retryPolicy);
  const address = uriParts.exec(uri.uri);
  if (address === null || Number(address[2] ?? 0) > 65535) throw new ConfigError(`Provider '${name}' has an invalid URI: '${uri.uri}'`);
  const request: AsyncRequest = {
    method: "GET",
    authority: address[1]!,
    path: (address[3] ?? "/").replace(/^\?/, "/?"),
    headers: ["user-agent", "Go-browser"],
    body: null,
    timeoutMs: Math.floor(durationMs(uri.timeout, 0)),
    maxBodyBytes: maxJwksBytes,
    retryPolicy,
    sendsForwardedFor: true,
  };
  const { asyncFetch } = config;
  return new RemoteKeys({
    client,
    cluster,
    request,
    cacheLimits,
    // In whole seconds, as in Envoy.
    cacheDurationMs: Math.floor(durationMs(config.cacheDuration, defaultCacheDurationMs) / 1000) * 1000,
    ahead:
      asyncFetch === undefined
        ? null
        : {
            holdsListener: !asyncFetch.fastListener,
            failedRefetchMs: durationMs(asyncFetch.failedRefetchDuration, defaultFailedRefetchMs),
          },
    onFetched,
  });
}

const defaultBackOffMs = 1000;

function compileRetry(config: RetryPolicyMessage | undefined): RetryPolicy | null {
  if (config === undefined) return null;
  const baseMs = durationMs(config.retryBackOff?.baseInterval, defaultBackOffMs);
  const maxMs = durationMs(config.retryBackOff?.maxInterval, baseMs * 10);
  if (maxMs < baseMs) throw new ConfigError("max_interval must be greater than or equal to the base_interval");
  return {
    retryOn: retryOnBits["5xx"] | retryOnBits["gateway-error"] | retryOnBits["connect-failure"] | retryOnBits.reset,
    maxRetries: config.numRetries ?? 1,
    retriableStatusCodes: new Set(),
    // An attempt may take as long as the longest wait between two.
    perTryTimeoutMs: maxMs,
    perTryIdleTimeoutMs: 0,
    backOffBaseMs: baseMs,
    backOffMaxMs: maxMs,
    avoidsPreviousHosts: false,
    priorityUpdateFrequency: 0,
    hostSelectionAttempts: 1,
    retriableHeaders: [],
    retriableRequestHeaders: [],
  };
}
