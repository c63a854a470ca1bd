/** `POST .../serviceaccounts/NAME/token`: what `kubectl create token` and an agent's provisioning ask. */
import { type ServiceAccountTokens, TokenError, tokenIssuer } from "../ca/service-account-tokens.ts";
import { ApiError } from "./status.ts";

const defaultSeconds = 3600;
const maxAudiences = 16;

interface TokenRequestSpec {
  readonly audiences?: unknown;
  readonly expirationSeconds?: unknown;
  readonly boundObjectRef?: unknown;
}

export async function requestToken(
  tokens: ServiceAccountTokens,
  account: { readonly namespace: string; readonly serviceAccount: string },
  body: unknown,
): Promise<Record<string, unknown>> {
  const { kind, apiVersion, spec = {} } = (body ?? {}) as { kind?: unknown; apiVersion?: unknown; spec?: TokenRequestSpec };
  if (kind !== undefined && kind !== "TokenRequest") throw new ApiError(400, `the object is a ${String(kind)}, not a TokenRequest`);
  if (apiVersion !== undefined && apiVersion !== "authentication.k8s.io/v1")
    throw new ApiError(400, `unknown apiVersion ${String(apiVersion)}`);
  const { audiences = [], expirationSeconds = defaultSeconds, boundObjectRef } = spec;
  if (!Array.isArray(audiences) || audiences.length > maxAudiences || !audiences.every((one) => typeof one === "string" && one !== ""))
    throw new ApiError(400, `spec.audiences: must be a list of at most ${maxAudiences} names`);
  if (typeof expirationSeconds !== "number" || !Number.isInteger(expirationSeconds))
    throw new ApiError(400, "spec.expirationSeconds: must be a whole number of seconds");
  if (boundObjectRef !== undefined && boundObjectRef !== null)
    throw new ApiError(400, "spec.boundObjectRef: tokens are bound to their account alone");
  const effective = audiences.length > 0 ? (audiences as string[]) : [tokenIssuer];
  try {
    const { token, expiresAt } = await tokens.issue(account, effective, expirationSeconds);
    return {
      kind: "TokenRequest",
      apiVersion: "authentication.k8s.io/v1",
      metadata: { name: account.serviceAccount, namespace: account.namespace, creationTimestamp: now() },
      spec: { audiences: effective, expirationSeconds, boundObjectRef: null },
      status: { token, expirationTimestamp: expiresAt.toISOString().replace(".000Z", "Z") },
    };
  } catch (error) {
    if (error instanceof TokenError) throw new ApiError(/not found/.test(error.message) ? 404 : 400, error.message);
    throw error;
  }
}

function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
