/** What is measured: each case is one configuration, built the same for every proxy. */
export interface BenchCase {
  readonly name: string;
  readonly kind: "http" | "https" | "tcp";
  /** Of each response. */
  readonly bodyBytes: number;
  /** Prefix routes in front of the one that is asked for. */
  readonly routes: number;
  /** Each route leads to a cluster of its own, all of them to the same endpoint. */
  readonly manyClusters?: true;
  readonly logsAccess: boolean;
  /** What filters do with each request; HAProxy and nginx have no equal and sit it out, and a stock Envoy where the filters are Istio's. */
  readonly checks?: Checks;
  /** What clients speak: four connections with eight streams each. HAProxy and nginx sit it out. */
  readonly http2?: true;
  /** What the upstream speaks: HTTP/2, or calls of gRPC with a message of 100 bytes and a status behind the answer. */
  readonly upstream?: "http2" | "grpc";
  /** Certificates on both sides, towards clients and towards the upstream. */
  readonly isMutual?: true;
  /** Each request on a connection of its own: what is measured is the handshake, a whole one or one that takes up a session. */
  readonly connects?: "new" | "resumed";
  /** Of the certificate, where there is one; default P-256. */
  readonly keyKind?: "rsa";
}

export type Checks =
  | { readonly kind: "policies"; readonly count: number }
  /** `many`: more tokens than anybody remembers, in turn. */
  | { readonly kind: "jwt"; readonly algorithm: "RS256" | "ES256"; readonly tokens: "one" | "many" }
  /** Metadata exchange and Istio's metrics, as a server's sidecar has them; without `counts` only the headers come. */
  | { readonly kind: "telemetry"; readonly counts: boolean };

const plain: BenchCase = { name: "HTTP/1.1 1 KiB", kind: "http", bodyBytes: 1024, routes: 0, logsAccess: false };

export const cases: readonly BenchCase[] = [
  plain,
  { ...plain, name: "HTTP/1.1 100 KiB", bodyBytes: 100 * 1024 },
  { ...plain, name: "HTTP/2 1 KiB", http2: true },
  { ...plain, name: "HTTP/2 100 KiB", http2: true, bodyBytes: 100 * 1024 },
  { ...plain, name: "HTTP/2 on both sides 1 KiB", http2: true, upstream: "http2" },
  { ...plain, name: "HTTP/2 on both sides 100 KiB", http2: true, upstream: "http2", bodyBytes: 100 * 1024 },
  { ...plain, name: "HTTP/1.1 to HTTP/2 1 KiB", upstream: "http2" },
  { ...plain, name: "gRPC", http2: true, upstream: "grpc", bodyBytes: 100 },
  { ...plain, name: "1000 routes", routes: 1000 },
  { ...plain, name: "10000 clusters", routes: 10_000, manyClusters: true },
  { ...plain, name: "TLS termination", kind: "https" },
  { ...plain, name: "access log", logsAccess: true },
  { ...plain, name: "TCP", kind: "tcp" },
  { ...plain, name: "20 policies", checks: { kind: "policies", count: 20 } },
  { ...plain, name: "1000 policies", checks: { kind: "policies", count: 1000 } },
  { ...plain, name: "JWT RS256, remembered", checks: { kind: "jwt", algorithm: "RS256", tokens: "one" } },
  { ...plain, name: "JWT ES256, remembered", checks: { kind: "jwt", algorithm: "ES256", tokens: "one" } },
  { ...plain, name: "JWT RS256, new", checks: { kind: "jwt", algorithm: "RS256", tokens: "many" } },
  { ...plain, name: "JWT ES256, new", checks: { kind: "jwt", algorithm: "ES256", tokens: "many" } },
  { ...plain, name: "mTLS on both sides", kind: "https", isMutual: true },
  { ...plain, name: "TLS handshake, P-256", kind: "https", connects: "new" },
  { ...plain, name: "TLS handshake, RSA 2048", kind: "https", connects: "new", keyKind: "rsa" },
  { ...plain, name: "TLS handshake, resumed", kind: "https", connects: "resumed" },
  { ...plain, name: "peer headers alone", checks: { kind: "telemetry", counts: false } },
  { ...plain, name: "peer headers and metrics", checks: { kind: "telemetry", counts: true } },
];

/** Path that the last route of the case takes. */
export function pathOf({ routes }: BenchCase): string {
  return routes > 0 ? `/route-${routes - 1}/x` : "/";
}

/** Where everything listens, all on loopback. */
export const ports = { proxy: 18_800, upstream: 18_801, admin: 18_802, front: 18_803 } as const;
