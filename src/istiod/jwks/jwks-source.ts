/** Where the keys of a JWT rule come from that doesn't bring them itself. */
import { isKind } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
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
export type JwksFetchMode = "istiod" | "hybrid" | "envoy";

const defaultTimeoutMs = 5000;

/** Undefined: the keys are in the rule. */
export function jwksSourceOf({ jwks, jwksUri, issuer, timeout }: JWTRule): JwksSource | undefined {
  if (jwks !== "") return undefined;
  const timeoutMs = timeout ?? defaultTimeoutMs;
  if (jwksUri !== "") return { kind: "keys", url: jwksUri, timeoutMs };
  return { kind: "discovery", url: `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`, timeoutMs };
}

/** All that the control plane has to fetch for these objects. */
export function jwksSourcesOf(objects: readonly ConfigObject[], mode: JwksFetchMode): JwksSource[] {
  return objects
    .flatMap((object) => (isKind(object, "RequestAuthentication") ? object.spec.jwtRules : []))
    .filter(({ jwksUri }) => mode !== "envoy" || jwksUri === "")
    .flatMap((rule) => jwksSourceOf(rule) ?? []);
}

/** Keys as they are known at one moment; nothing of it changes. */
export interface JwksSnapshot {
  /** A JSON Web Key Set with at least one key that can be used. */
  keys(source: JwksSource): string | undefined;
  /** Why there are none, or why those that are there may be old; undefined also while nothing is known yet. */
  problem(source: JwksSource): string | undefined;
}

export const noJwks: JwksSnapshot = { keys: () => undefined, problem: () => "this control plane fetches no keys" };
