/**
 * NDS: the names that an agent answers DNS queries for, and their addresses. One table a proxy, of what its Sidecar lets it see.
 *
 *   service with addresses            those, blocks of addresses left out
 *   headless service                  its endpoints that are ready, in the proxy's network; each pod that has a name, by its name
 *   alias (Service of ExternalName)   what it stands for: that service's addresses, else the name, which the agent looks up
 *   anything else                     nothing: the query goes on to the machine's nameservers
 *
 * Of one host, Kubernetes' Service counts before ServiceEntries; ServiceEntries put their addresses together.
 * Source: Istio pkg/dns/server/name_table.go.
 */
import { isIP } from "node:net";
import { create } from "@bufbuild/protobuf";
import { type NameTable, NameTable_NameInfoSchema, NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { isNamedByEndpoints, type Service } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";

export function nameTable(proxy: ProxyNode, push: PushContext): NameTable {
  const names = new Names();
  const services = push.sidecarScope(proxy).egress.flatMap((listener) => listener.services);
  for (const service of services) {
    if (isNamedByEndpoints(service)) addEndpoints(names, service, proxy, push);
    else {
      const ips = push.registry.addressesFor(service, proxy).filter((address) => isIP(address));
      if (ips.length > 0) names.add(service, ips);
    }
  }
  // Last, for they may stand for any of those.
  for (const service of services) if (service.aliasOf !== "") names.addAlias(service);
  return names.table;
}

class Names {
  readonly table = create(NameTableSchema);

  add(service: Service, ips: readonly string[]): void {
    const known = this.table.table[service.host];
    if (known && known.registry !== "Kubernetes" && service.registry !== "Kubernetes") {
      known.ips = [...new Set([...known.ips, ...ips])];
    } else if (known?.registry !== "Kubernetes") this.#set(service.host, service, service.name, { ips: [...new Set(ips)] });
  }

  addPod(host: string, shortname: string, service: Service, ip: string): void {
    const known = this.table.table[host];
    if (known) known.ips.push(ip);
    else this.#set(host, service, shortname, { ips: [ip] });
  }

  addAlias(service: Service): void {
    if (this.table.table[service.host]) return;
    const target = this.table.table[service.aliasOf];
    this.#set(service.host, service, service.name, target ? { ips: target.ips } : { alias: service.aliasOf });
  }

  #set(host: string, service: Service, shortname: string, answer: { ips?: string[]; alias?: string }): void {
    const { registry, namespace } = service;
    // Agents make the short forms of a Kubernetes name by themselves.
    this.table.table[host] = create(NameTable_NameInfoSchema, {
      registry,
      ...answer,
      ...(registry === "Kubernetes" ? { shortname, namespace } : {}),
    });
  }
}

function addEndpoints(names: Names, service: Service, proxy: ProxyNode, push: PushContext): void {
  const [, domain = ""] = /^[^.]*\.(.*)$/.exec(service.host) ?? [];
  const seen = new Set<string>();
  for (const { address, health, network, podHost } of push.registry.endpoints(service)) {
    const isInReach = network === "" || proxy.network === "" || network === proxy.network;
    if (!isInReach || !isIP(address) || (health !== "healthy" && !service.publishesNotReady)) continue;
    // An endpoint of several ports is listed once for each.
    if (seen.has(address)) continue;
    seen.add(address);
    if (podHost !== undefined) names.addPod(`${podHost}.${domain}`, podHost, service, address);
  }
  if (seen.size > 0) names.add(service, [...seen]);
}
