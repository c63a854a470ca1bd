/** Where the keys of a JWT rule come from that doesn't bring them itself. */
import type { JWTRule } from "../../api/kinds/request-authentication.ts";

export type JwksSource =
  /** The set itself is there. */
  | { readonly kind: "keys"; readonly url: string; readonly timeoutMs: number }
  /** OpenID Connect: a document of the issuer's says where. */
  | { readonly kind: "discovery"; readonly url: string; readonly timeoutMs: number };

/**
 * Who fetches keys that a rule names by jwksUri: the control plane; proxies, where its host is a service of theirs (`hybrid`); or proxies,
 * come what may (`envoy`). Istio PILOT_JWT_ENABLE_REMOTE_JWKS.
 */
export const jwksFetchModes = ["istiod", "hybrid", "envoy"] as const;
export type JwksFetchMode = (typeof jwksFetchModes)[number];

const defaultTimeoutMs = 5000;

/** Undefined: the keys are in the rule. */
export function jwksSourceOf({ jwks, jwksUri, issuer, timeout }: JWTRule): JwksSource | undefined {
  if (jwks !== "") return undefined;
  const timeoutMs = timeout ?? defaultTimeoutMs;
  if (jwksUri !== "") return { kind: "keys", url: jwksUri, timeoutMs };
  return { kind: "discovery", url: `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`, timeoutMs };
}

/** Keys as they are known at one moment; nothing of it changes. */
export interface JwksSnapshot {
  /** A JSON Web Key Set with at least one key that can be used. */
  keys(source: JwksSource): string | undefined;
  /** Why there are none, or why those that are there may be old. */
  problem(source: JwksSource): string | undefined;
}

export const noJwks: JwksSnapshot = { keys: () => undefined, problem: () => "this control plane fetches no keys" };
