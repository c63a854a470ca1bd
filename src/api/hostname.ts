/** Host names in configuration: exact, or with a wildcard as the first label (`*.example.com`, or `*` alone). All are compared in lower case. */

function isWildcard(host: string): boolean {
  return host.startsWith("*");
}

/** Whether the two overlap: one of them covers the other. `*.com` and `foo.com` do, as Istio's host.Name.Matches. */
export function hostsMatch(a: string, b: string): boolean {
  if (!isWildcard(a) && !isWildcard(b)) return a === b;
  return hostCovers(a, b) || hostCovers(b, a);
}

/** Whether every name that `narrow` stands for is one that `wide` stands for. */
export function hostCovers(wide: string, narrow: string): boolean {
  if (wide === narrow || wide === "*") return true;
  if (!isWildcard(wide)) return false;
  const suffix = wide.slice(1);
  const name = isWildcard(narrow) ? narrow.slice(1) : narrow;
  return name.length >= suffix.length && name.endsWith(suffix) && (isWildcard(narrow) || name.length > suffix.length);
}

/** Most specific first: exact names before wildcards, longer before shorter, then alphabetically. */
export function compareSpecificity(a: string, b: string): number {
  const wildA = isWildcard(a);
  const wildB = isWildcard(b);
  if (wildA !== wildB) return wildA ? 1 : -1;
  if (a.length !== b.length) return b.length - a.length;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** `reviews` in namespace `shop` is `reviews.shop.svc.cluster.local`; a name with a dot or a wildcard is left as it is. */
export function expandShortHost(host: string, namespace: string, domain: string): string {
  if (host === "" || isWildcard(host) || host.includes(".")) return host;
  return `${host}.${namespace}.svc.${domain}`;
}

/** Overlap of a server's host and a route's: the narrower of the two, undefined when they have nothing in common. */
export function intersectHosts(a: string, b: string): string | undefined {
  if (hostCovers(a, b)) return b;
  if (hostCovers(b, a)) return a;
  return undefined;
}
