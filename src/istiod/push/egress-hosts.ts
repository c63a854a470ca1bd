/**
 * The hosts that an egress listener of a Sidecar imports: `namespace/host`, where the namespace is a name, `*` for all or `.` for the
 * Sidecar's own. `~namespace/host` takes out again what another entry brings in; `~` alone means all namespaces.
 * Source: Istio pilot/pkg/model/sidecar.go (hostClassification).
 */
import { hostCovers, hostsMatch } from "../../api/hostname.ts";

/** Entries of one namespace, or of `*`. */
class HostSet {
  readonly #exact = new Set<string>();
  readonly #wild: string[] = [];
  readonly #excluded: string[] = [];

  add(host: string, isExcluded: boolean): void {
    if (isExcluded) this.#excluded.push(host);
    else if (host.startsWith("*")) this.#wild.push(host);
    else this.#exact.add(host);
  }

  excludes(host: string): boolean {
    return this.#excluded.some((excluded) => hostCovers(excluded, host));
  }

  /** Whether all that the host stands for is imported. */
  covers(host: string): boolean {
    return this.#exact.has(host) || this.#wild.some((wild) => hostCovers(wild, host));
  }

  /** Whether some of it is. A rule for `*.shop.test` concerns who imports `a.shop.test` alone. */
  overlaps(host: string): boolean {
    if (this.covers(host) || this.#wild.some((wild) => hostsMatch(wild, host))) return true;
    return host.startsWith("*") && [...this.#exact].some((exact) => hostCovers(host, exact));
  }
}

export class EgressHosts {
  readonly #byNamespace = new Map<string, HostSet>();

  constructor(entries: readonly string[], ownNamespace: string) {
    for (const entry of entries) {
      const slash = entry.indexOf("/");
      const isExcluded = entry.startsWith("~");
      const written = slash < 0 ? "*" : entry.slice(isExcluded ? 1 : 0, slash);
      const namespace = written === "." ? ownNamespace : written === "" ? "*" : written;
      const set = this.#byNamespace.get(namespace) ?? new HostSet();
      this.#byNamespace.set(namespace, set);
      set.add(entry.slice(slash + 1).toLowerCase(), isExcluded);
    }
  }

  importsService(host: string, namespace: string): boolean {
    return this.#imports(host, namespace, (set) => set.covers(host));
  }

  /** One of its hosts is enough. */
  importsVirtualService(hosts: readonly string[], namespace: string): boolean {
    return hosts.some((host) => this.#imports(host, namespace, (set) => set.overlaps(host)));
  }

  #imports(host: string, namespace: string, takes: (set: HostSet) => boolean): boolean {
    const [own, all] = [this.#byNamespace.get(namespace), this.#byNamespace.get("*")];
    if (own?.excludes(host) || all?.excludes(host)) return false;
    return (own !== undefined && takes(own)) || (all !== undefined && takes(all));
  }
}
