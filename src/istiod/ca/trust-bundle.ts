/**
 * Whom the mesh trusts, from all who say something about it:
 *
 *   the authority                               its roots
 *   meshConfig.caCertificates[].pem             as it is written
 *   meshConfig.caCertificates[].spiffeBundleUrl as it is published there
 *   --spiffeBundleEndpoints                     roots of other trust domains, by which callers of this control plane are judged, and no more
 *
 * Agents are told the first three, all together, for Envoy does not tell trust domains apart. The control plane does: a root vouches for
 * its own trust domains alone. Source: Istio pilot/pkg/trustbundle/trustbundle.go, pkg/spiffe/spiffe.go (PeerCertVerifier).
 */
import type { CertificateData, MeshConfig } from "../../api/mesh/mesh-config.ts";
import { splitCertificates } from "../../lib/pem.ts";
import type { BundleEndpoints } from "./bundle-endpoints.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";

/** URLs of the bundle of each trust domain. */
export type ForeignBundles = ReadonlyMap<string, readonly string[]>;

export interface TrustBundleSources {
  readonly authority: CertificateAuthority;
  readonly endpoints: BundleEndpoints;
  readonly foreign: ForeignBundles;
}

export class TrustBundle implements Disposable {
  readonly #sources: TrustBundleSources;
  readonly #watch: Disposable;
  readonly #listeners = new Set<() => void>();
  #mesh: MeshConfig;

  constructor(sources: TrustBundleSources, mesh: MeshConfig) {
    this.#sources = sources;
    this.#mesh = mesh;
    this.#watch = sources.authority.onChange(() => this.#tell());
    sources.endpoints.observe(() => this.#tell());
    this.#wantEndpoints();
  }

  setMesh(mesh: MeshConfig): void {
    this.#mesh = mesh;
    this.#wantEndpoints();
    this.#tell();
  }

  /** PEM of what agents are to trust, each once, the authority's first. */
  get roots(): readonly string[] {
    const others = this.#mesh.caCertificates.flatMap((data) => this.#rootsOf(data));
    return distinct([...this.#sources.authority.roots, ...others]);
  }

  /** PEM of the roots that some caller's certificate may lead to. */
  get callersRoots(): readonly string[] {
    const { foreign } = this.#sources;
    return distinct([...this.roots, ...[...foreign.keys()].flatMap((domain) => this.#foreignRoots(domain))]);
  }

  /** Trust domains whose workloads may call, the mesh's own first. */
  get trustDomains(): readonly [string, ...string[]] {
    const { trustDomain, trustDomainAliases } = this.#mesh;
    return [trustDomain, ...trustDomainAliases, ...this.#sources.foreign.keys()];
  }

  /** PEM of the roots that vouch for the workloads of a trust domain. */
  rootsFor(trustDomain: string): readonly string[] {
    const { trustDomain: own, trustDomainAliases, caCertificates } = this.#mesh;
    const isOwn = trustDomain === own || trustDomainAliases.includes(trustDomain);
    const concerning = caCertificates.filter(({ trustDomains }) => (trustDomains.length > 0 ? trustDomains.includes(trustDomain) : isOwn));
    return distinct([
      ...(isOwn ? this.#sources.authority.roots : []),
      ...concerning.flatMap((data) => this.#rootsOf(data)),
      ...this.#foreignRoots(trustDomain),
    ]);
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#listeners.clear();
  }

  #rootsOf({ pem, spiffeBundleUrl }: CertificateData): readonly string[] {
    if (pem) return splitCertificates(pem);
    return spiffeBundleUrl ? this.#sources.endpoints.roots(spiffeBundleUrl) : [];
  }

  #foreignRoots(trustDomain: string): readonly string[] {
    const { foreign, endpoints } = this.#sources;
    return (foreign.get(trustDomain) ?? []).flatMap((url) => endpoints.roots(url));
  }

  #wantEndpoints(): void {
    const { endpoints, foreign } = this.#sources;
    const own = this.#mesh.caCertificates.flatMap(({ spiffeBundleUrl }) => spiffeBundleUrl || []);
    endpoints.want(new Set([...own, ...[...foreign.values()].flat()]));
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function distinct(roots: readonly string[]): string[] {
  return [...new Set(roots.map((root) => `${root.trim()}\n`))];
}

/** `foo.test|https://foo.test/bundle||bar.test|https://bar.test/bundle`. Throws an Error that says what is wrong. */
export function parseForeignBundles(text: string): ForeignBundles {
  const bundles = new Map<string, string[]>();
  for (const part of text.split("||").filter(Boolean)) {
    const [domain = "", url = "", more] = part.split("|");
    if (domain === "" || more !== undefined || !URL.canParse(url) || new URL(url).protocol !== "https:")
      throw new Error(`"${part}" is not TRUST-DOMAIN|https://…`);
    bundles.set(domain, [...(bundles.get(domain) ?? []), url]);
  }
  return bundles;
}
