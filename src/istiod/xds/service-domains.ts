/** The domains of a service's virtual host. Source: Istio pilot/pkg/networking/core/httproute.go (generateVirtualHostDomains). */
import type { ProxyNode } from "../../api/node.ts";
import type { Registry } from "../../registry/registry.ts";
import type { Service } from "../../registry/service.ts";

/**
 * The full name, with and without the root's dot, the short forms that resolve for this proxy, and the addresses; each also with
 * `withPort`, where that is given.
 */
export function serviceDomains(service: Service, proxy: ProxyNode, registry: Registry, withPort?: number): string[] {
  const names = [...fullNames(service.host), ...shortNames(service.host, proxy)];
  if (service.isHeadless) names.push(...names.map((name) => `*.${name}`));
  const addresses = registry
    .addressesFor(service, proxy)
    .filter((address) => !address.includes("/"))
    .map((address) => (address.includes(":") ? `[${address}]` : address));
  const all = [...names, ...addresses];
  return withPort === undefined ? all : all.flatMap((domain) => [domain, `${domain}:${withPort}`]);
}

function fullNames(host: string): string[] {
  return host.startsWith("*") ? [host] : [host, `${host}.`];
}

/** Only of hosts that end as the proxy's own domain does, behind the namespace. */
function shortNames(host: string, proxy: ProxyNode): string[] {
  const svc = proxy.dnsDomain.indexOf("svc.");
  const suffix = svc >= 0 ? `.${proxy.dnsDomain.slice(svc)}` : undefined;
  if (!suffix || !host.endsWith(suffix)) return [];
  const [name, namespace] = host.slice(0, -suffix.length).split(".");
  if (!name || !namespace) return [];
  const isOwn = namespace === proxy.namespace;
  return isOwn ? [name, `${name}.${namespace}.svc`, `${name}.${namespace}`] : [`${name}.${namespace}`, `${name}.${namespace}.svc`];
}

/** Of one route configuration: each domain belongs to one virtual host, full names before short ones. */
export class DomainTable {
  readonly #taken = new Set<string>();
  /** Full names win over the short forms of any other service. */
  readonly #hosts: ReadonlySet<string>;
  readonly #registry: Registry;

  constructor(services: Iterable<Service>, registry: Registry) {
    this.#registry = registry;
    this.#hosts = new Set([...services].map(({ host }) => host));
  }

  /** Those of a service that nobody has yet. */
  take(service: Service, proxy: ProxyNode, withPort?: number): string[] {
    return serviceDomains(service, proxy, this.#registry, withPort).filter(
      (domain) => (domain === service.host || !this.#hosts.has(domain)) && this.takeHost(domain),
    );
  }

  /** False: it is another's. */
  takeHost(host: string): boolean {
    if (this.#taken.has(host)) return false;
    this.#taken.add(host);
    return true;
  }
}
