/**
 * The names under which an entry of the control plane's table can be asked for. A Kubernetes service of the proxy's own domain has short
 * forms, the shortest one in its own namespace alone; any other host has its name and nothing else.
 *
 *   reviews.shop.svc.cluster.local   reviews.shop   reviews.shop.svc   reviews (in namespace shop)
 *
 * Source: Istio pkg/dns/client/dns.go (generateAltHosts).
 */
import type { NameTable_NameInfo } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";

export interface ProxyDomain {
  readonly namespace: string;
  /** Without the namespace: `svc.cluster.local`. */
  readonly domain: string;
}

/** From `--domain`, which has the namespace in front as a rule. */
export function proxyDomain(namespace: string, nodeDomain: string): ProxyDomain {
  const prefix = `${namespace}.`;
  return { namespace, domain: nodeDomain.startsWith(prefix) ? nodeDomain.slice(prefix.length) : nodeDomain };
}

/** With the final dot. The first one is the name itself. */
export function nameForms(host: string, info: NameTable_NameInfo, { namespace, domain }: ProxyDomain): string[] {
  const full = host.endsWith(".") ? host : `${host}.`;
  // A name that is written with its dot is meant as it is.
  if (info.registry !== "Kubernetes" || host.endsWith(".")) return [full];
  // Of another domain: who says that its names and namespaces mean the same there?
  if (domain === "" || info.shortname === "" || !host.endsWith(domain)) return [full];
  const inNamespace = `${info.shortname}.${info.namespace}`;
  return [
    full,
    `${inNamespace}.`,
    `${inNamespace}.${domain.split(".", 1)[0]}.`,
    ...(info.namespace === namespace ? [`${info.shortname}.`] : []),
    ...info.altHosts.map((alternative) => `${alternative}.`),
  ];
}
