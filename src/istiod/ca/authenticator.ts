/**
 * Who calls: by the certificate of the connection, or else by the token in `authorization`. The first that says something decides.
 * Source: Istio security/pkg/server/ca/authenticate/.
 */
import type { X509Certificate } from "node:crypto";
import { type Metadata, type ServerInterceptingCallInterface, status } from "@grpc/grpc-js";
import { parseSpiffeId, type SpiffeId } from "../../api/spiffe.ts";
import { leadsTo, peerCertificateOf } from "./peer-certificate.ts";
import type { Revocations } from "./revocations.ts";
import { istioAudience, type ServiceAccountTokens, TokenError } from "./service-account-tokens.ts";
import type { TrustBundle } from "./trust-bundle.ts";

/** What a gRPC call of any kind has of its caller. */
export interface Call {
  readonly metadata: Metadata;
  getPeer(): string;
  getAuthContext(): ReturnType<ServerInterceptingCallInterface["getAuthContext"]>;
}

export class Unauthenticated extends Error {
  override readonly name = "Unauthenticated";
  readonly code = status.UNAUTHENTICATED;
}

export class Authenticator {
  readonly #tokens: ServiceAccountTokens;
  readonly #revocations: Revocations;
  readonly #trust: Pick<TrustBundle, "trustDomains" | "rootsFor">;

  constructor(tokens: ServiceAccountTokens, revocations: Revocations, trust: Pick<TrustBundle, "trustDomains" | "rootsFor">) {
    this.#tokens = tokens;
    this.#revocations = revocations;
    this.#trust = trust;
  }

  /** The caller's identities, one at least. Throws Unauthenticated with what was wrong with each way. */
  async authenticate(call: Call): Promise<readonly SpiffeId[]> {
    const certificate = peerCertificateOf(call);
    const { trustDomains } = this.#trust;
    // Who shows a revoked certificate is not asked for a token as well: something is wrong there.
    if (certificate && this.#revocations.includes(certificate.serialNumber))
      throw new Unauthenticated("authentication failed: the client certificate is revoked");
    const identities = certificate
      ? identitiesOf(certificate).filter(
          // Some root has signed it. It has to be one that vouches for this very trust domain.
          ({ trustDomain }) => trustDomains.includes(trustDomain) && leadsTo(certificate, this.#trust.rootsFor(trustDomain)),
        )
      : [];
    if (identities.length > 0) return identities;
    const byCertificate = certificate ? "the client certificate names no workload of this mesh" : "no verified client certificate";
    const token = bearerToken(call.metadata);
    if (token === undefined) throw new Unauthenticated(`authentication failed: ${byCertificate}; no bearer token`);
    try {
      return [{ trustDomain: trustDomains[0], ...(await this.#tokens.verify(token, istioAudience)) }];
    } catch (error) {
      if (error instanceof TokenError) throw new Unauthenticated(`authentication failed: ${byCertificate}; ${error.message}`);
      throw error;
    }
  }
}

/** The SPIFFE ids among the URI names of a certificate. */
export function identitiesOf({ subjectAltName }: X509Certificate): SpiffeId[] {
  // A name that could be taken for a list is quoted by Node, and then is no identity.
  const names = subjectAltName?.split(", ") ?? [];
  return names.flatMap((name) => (name.startsWith("URI:") ? (parseSpiffeId(name.slice(4)) ?? []) : []));
}

function bearerToken(metadata: Metadata): string | undefined {
  for (const value of metadata.get("authorization")) {
    const found = /^Bearer (?<token>\S+)$/i.exec(String(value));
    if (found) return found.groups!.token;
  }
  return undefined;
}
