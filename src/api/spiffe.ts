/** Workload identities: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`. Source: Istio pkg/spiffe/spiffe.go. */

export interface SpiffeId {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

const pattern = /^spiffe:\/\/(?<trustDomain>[^/?#\s]+)\/ns\/(?<namespace>[^/?#\s]+)\/sa\/(?<serviceAccount>[^/?#\s]+)$/;

export function formatSpiffeId({ trustDomain, namespace, serviceAccount }: SpiffeId): string {
  // A trust domain may be an e-mail address of old; `@` would begin a user's name in a URI.
  return `spiffe://${trustDomain.replaceAll("@", ".")}/ns/${namespace}/sa/${serviceAccount}`;
}

/** Undefined for whatever is no identity of a workload. */
export function parseSpiffeId(uri: string): SpiffeId | undefined {
  const groups = pattern.exec(uri)?.groups;
  if (!groups) return undefined;
  return { trustDomain: groups.trustDomain!, namespace: groups.namespace!, serviceAccount: groups.serviceAccount! };
}
