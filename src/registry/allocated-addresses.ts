/**
 * Where a service has its address from that was given none: the one place that decides it.
 *
 *   ServiceEntry with `addresses`, Service with `clusterIP`   those; nothing is allocated
 *   ServiceEntry that can be written to                       its status, by istiod's address allocator, which remembers
 *   ServiceEntry of a file, Service without `clusterIP`       a hash of its name
 *   Service with a `clusterIP` of one family                  the same, for proxies of the other family alone
 *   resolution NONE, wildcard hosts, ExternalName, headless, label enable-autoallocate-ip "false"   none
 *
 * Whether a proxy uses what was allocated is the registry's `addressesFor`. No two services have one address: of two that claim it by
 * their status the older one does, and hashes go round what is taken. Pure.
 */
import type { ConfigObject } from "../api/kinds/object.ts";
import type { Service } from "../api/kinds/service.ts";
import type { ServiceEntry } from "../api/kinds/service-entry.ts";
import { maskedIp, parseIp } from "../lib/ip-range.ts";
import { perObject } from "../lib/per-object.ts";
import { hashedAddresses } from "./hashed-address.ts";
import { kubernetesHost, serviceKey } from "./service.ts";

export interface AddressAllocation {
  /** Whether somebody writes addresses into the status of the object; else they are hashed. */
  readonly isWritten: (object: ConfigObject<ServiceEntry>) => boolean;
  /** Only proxies that ask for it by DNS_AUTO_ALLOCATE use them. Istio PILOT_ENABLE_IP_AUTOALLOCATE=false. */
  readonly isOnDemand: boolean;
}

export const hashedAllocation: AddressAllocation = { isWritten: () => false, isOnDemand: false };

const optOutLabel = "networking.istio.io/enable-autoallocate-ip";

/** The hosts of the entry that get an address. */
export const hostsWithoutAddress = perObject(({ spec, metadata }: ConfigObject<ServiceEntry>): readonly string[] => {
  if (spec.resolution === "NONE" || spec.addresses.length > 0) return [];
  if (metadata.labels[optOutLabel]?.toLowerCase() === "false") return [];
  // Istio gives wildcards of resolution DYNAMIC_DNS one too; here nothing would answer at it, see push/untranslated.
  return [...new Set(spec.hosts.map((host) => host.toLowerCase()))].filter((host) => !host.startsWith("*"));
});

/** What the status says, by host, in the shortest form; what is no address is left out. */
export const statusAddresses = perObject(({ status }: ConfigObject<ServiceEntry>): ReadonlyMap<string, readonly string[]> => {
  const byHost = new Map<string, string[]>();
  const listed = (status as { addresses?: unknown } | undefined)?.addresses;
  for (const entry of Array.isArray(listed) ? (listed as { value?: unknown; host?: unknown }[]) : []) {
    const address = typeof entry?.value === "string" ? canonical(entry.value) : undefined;
    if (address === undefined || typeof entry.host !== "string") continue;
    const host = entry.host.toLowerCase();
    byHost.set(host, [...(byHost.get(host) ?? []), address]);
  }
  return byHost;
});

/** Those that a user wrote, in the shortest form. */
const writtenAddresses = perObject(({ spec }: ConfigObject<ServiceEntry>) => spec.addresses.flatMap((address) => canonical(address) ?? []));

const clusterAddresses = perObject(({ spec }: ConfigObject<Service>) =>
  [spec.clusterIP, ...spec.clusterIPs].flatMap((address) => canonical(address) ?? []),
);

const isOfOneFamily = perObject((service: ConfigObject<Service>) => {
  const addresses = clusterAddresses(service);
  const ofIpv6 = addresses.filter((address) => address.includes(":")).length;
  return addresses.length > 0 && (ofIpv6 === 0 || ofIpv6 === addresses.length);
});

export class AllocatedAddresses {
  readonly #byService = new Map<string, readonly string[]>();
  /** Who has an address: `namespace/host`, or "" for one that a user wrote. */
  readonly #owners = new Map<string, string>();

  /** Entries and services oldest first. `domain`: of Services, `cluster.local`. */
  constructor(
    entries: readonly ConfigObject<ServiceEntry>[],
    services: readonly ConfigObject<Service>[],
    domain: string,
    isWritten: AddressAllocation["isWritten"],
  ) {
    for (const entry of entries) for (const address of writtenAddresses(entry)) this.#owners.set(address, "");
    for (const service of services) for (const address of clusterAddresses(service)) this.#owners.set(address, "");
    for (const entry of entries) this.#readStatus(entry);
    for (const entry of entries) {
      if (isWritten(entry)) continue;
      for (const host of hostsWithoutAddress(entry)) this.#hash(entry.metadata.namespace, host);
    }
    for (const { spec, metadata } of services) {
      // The API server would have given it one.
      if (spec.clusterIP === "" && spec.type !== "ExternalName") this.#hash(metadata.namespace, kubernetesHost(metadata, domain));
    }
    // Last, so that they are in nobody's way.
    for (const service of services) {
      if (isOfOneFamily(service)) this.#hash(service.metadata.namespace, kubernetesHost(service.metadata, domain));
    }
  }

  /** IPv4 and IPv6, or none. */
  of(namespace: string, host: string): readonly string[] {
    return this.#byService.get(serviceKey(host, namespace)) ?? [];
  }

  /** `key`: a service key. */
  isOwnedBy(key: string, address: string): boolean {
    return this.#owners.get(address) === key;
  }

  isTaken(address: string): boolean {
    return this.#owners.has(address);
  }

  #readStatus(entry: ConfigObject<ServiceEntry>): void {
    const listed = statusAddresses(entry);
    for (const host of hostsWithoutAddress(entry)) {
      const owner = serviceKey(host, entry.metadata.namespace);
      const own = (listed.get(host) ?? []).filter((address) => (this.#owners.get(address) ?? owner) === owner);
      for (const address of own) this.#owners.set(address, owner);
      if (own.length > 0 && !this.#byService.has(owner)) this.#byService.set(owner, own);
    }
  }

  #hash(namespace: string, host: string): void {
    const owner = serviceKey(host, namespace);
    if (this.#byService.has(owner)) return;
    const pair = hashedAddresses(owner, ([v4, v6]) => !this.isTaken(v4) && !this.isTaken(v6));
    if (!pair) return;
    for (const address of pair) this.#owners.set(address, owner);
    this.#byService.set(owner, pair);
  }
}

function canonical(address: string): string | undefined {
  const words = parseIp(address);
  return words ? maskedIp(address, words.length * 32) : undefined;
}
