/**
 * Domains of virtual hosts, and which of them a request's host belongs to: exact, longest suffix, longest prefix, `*`.
 * No two virtual hosts have a domain or a name in common.
 */
import { ConfigError } from "../../api/config-error.ts";

export interface NamedDomains {
  readonly name: string;
  readonly domains: readonly string[];
}

export class DomainTable<T> {
  readonly #configName: string;
  readonly #names = new Set<string>();
  readonly #exact = new Map<string, T>();
  readonly #suffixes = new LongestFirst<T>();
  readonly #prefixes = new LongestFirst<T>();
  #fallback: { readonly host: T } | null = null;

  /** Of the route configuration, for what it says of mistakes. */
  constructor(configName: string) {
    this.#configName = configName;
  }

  /** Throws ConfigError, in Envoy's words. */
  add({ name, domains }: NamedDomains, host: T): void {
    if (name === "") throw new ConfigError("VirtualHost: name: value length must be at least 1 characters");
    if (this.#names.has(name))
      throw new ConfigError(
        `Only unique names for virtual hosts are permitted. Duplicate entry of virtual host with name ${name} in route ${this.#configName}`,
      );
    this.#names.add(name);
    if (domains.length === 0) throw new ConfigError("VirtualHost: domains: value must contain at least 1 item(s)");
    for (const domain of domains) this.#addDomain(domain, host);
  }

  /** `host` in lower case; null: nobody's. */
  find(host: string): T | null {
    const exact = this.#exact.get(host);
    if (exact !== undefined) return exact;
    const found =
      this.#suffixes.find((length) => (host.length > length ? host.slice(host.length - length) : undefined)) ??
      this.#prefixes.find((length) => (host.length > length ? host.slice(0, length) : undefined)) ??
      this.#fallback?.host;
    return found ?? null;
  }

  #addDomain(written: string, host: T): void {
    const domain = written.toLowerCase();
    if (domain === "*") {
      if (this.#fallback !== null) throw new ConfigError(`Only a single wildcard domain is permitted in route ${this.#configName}`);
      this.#fallback = { host };
      return;
    }
    const isNew = domain.startsWith("*")
      ? this.#suffixes.add(domain.slice(1), host)
      : domain.endsWith("*")
        ? this.#prefixes.add(domain.slice(0, -1), host)
        : add(this.#exact, domain, host);
    if (isNew) return;
    throw new ConfigError(
      `Only unique values for domains are permitted. Duplicate entry of domain ${written} in route ${this.#configName}`,
    );
  }
}

/** Parts of names by their length. */
class LongestFirst<T> {
  readonly #groups: (readonly [length: number, hosts: Map<string, T>])[] = [];

  /** false: it is there already. */
  add(part: string, host: T): boolean {
    let at = this.#groups.findIndex(([length]) => length <= part.length);
    if (at < 0) at = this.#groups.length;
    if (this.#groups[at]?.[0] !== part.length) this.#groups.splice(at, 0, [part.length, new Map()]);
    return add(this.#groups[at]![1], part, host);
  }

  /** `partOf`: what of the name has that length. */
  find(partOf: (length: number) => string | undefined): T | undefined {
    for (const [length, hosts] of this.#groups) {
      const part = partOf(length);
      const found = part === undefined ? undefined : hosts.get(part);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function add<T>(hosts: Map<string, T>, key: string, host: T): boolean {
  if (hosts.has(key)) return false;
  hosts.set(key, host);
  return true;
}
