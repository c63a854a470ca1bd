/**
 * Identities in policies under all names of the mesh's trust domain: its own, its aliases, and `cluster.local`, which stands for it
 * whatever it is called. Other trust domains are left alone.
 * Source: Istio pilot/pkg/security/trustdomain.
 */
import type { MeshConfig } from "../../../api/mesh/mesh-config.ts";

const standIn = "cluster.local";

export class TrustDomains {
  /** The mesh's own first. */
  readonly #names: readonly string[];

  constructor({ trustDomain, trustDomainAliases }: Pick<MeshConfig, "trustDomain" | "trustDomainAliases">) {
    this.#names = [trustDomain, ...trustDomainAliases];
  }

  /** `domain/ns/x/sa/y`, the domain perhaps with a wildcard. What has another form names no trust domain. */
  expandPrincipals(principals: readonly string[]): string[] {
    return principals.flatMap((principal) => {
      const [domain = "", ...rest] = principal.split("/");
      if (rest.length !== 4 || domain === "*" || !this.#isOurs(domain)) return [principal];
      // A wildcard that covers a name is kept for it.
      return [...new Set(this.#names.map((name) => (isSuffix(domain, name) ? principal : [name, ...rest].join("/"))))];
    });
  }

  expandDomains(domains: readonly string[]): string[] {
    return [...new Set(domains.flatMap((domain) => (this.#names.includes(domain) ? this.#names : [domain])))];
  }

  #isOurs(domain: string): boolean {
    return (
      domain === standIn ||
      this.#names.some(
        (name) =>
          name === "*" ||
          name === domain ||
          isPrefix(name, domain) ||
          isPrefix(domain, name) ||
          isSuffix(name, domain) ||
          isSuffix(domain, name),
      )
    );
  }
}

function isPrefix(pattern: string, text: string): boolean {
  return pattern.endsWith("*") && text.startsWith(pattern.slice(0, -1));
}

function isSuffix(pattern: string, text: string): boolean {
  return pattern.startsWith("*") && text.endsWith(pattern.slice(1));
}
