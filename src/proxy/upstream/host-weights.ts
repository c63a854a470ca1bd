/** Hosts with their share of the traffic, as consistent hashing wants them: all shares together are 1. */
import { SocketAddress } from "node:net";
import { type Host, hostKey } from "./host.ts";

export interface WeightedHost {
  readonly host: Host;
  readonly weight: number;
}

/**
 * By weight alone, or within localities that have their share by weight first; localities of weight 0 get nothing, and the share of those
 * without usable hosts is nobody's.
 */
export function hostWeights(all: readonly Host[], usable: readonly Host[], weighsLocalities: boolean): WeightedHost[] {
  if (!weighsLocalities) return shared(usable, 1);
  const localities = localitiesOf(all, usable);
  const total = localities.reduce((sum, { weight }) => sum + weight, 0);
  return localities.flatMap(({ hosts, weight }) => (weight > 0 ? shared(hosts, weight / total) : []));
}

function shared(hosts: readonly Host[], part: number): WeightedHost[] {
  const total = hosts.reduce((sum, { description }) => sum + description.weight, 0);
  return hosts.map((host) => ({ host, weight: (host.description.weight * part) / total }));
}

export interface HostLocality {
  /** Those that may be used. */
  readonly hosts: Host[];
  readonly weight: number;
  /** Number of its hosts, usable or not. */
  size: number;
}

/** In the order of their names: region, zone, sub-zone. */
export function localitiesOf(all: readonly Host[], usable: readonly Host[]): HostLocality[] {
  const wanted = new Set(usable);
  const byName = new Map<string, HostLocality>();
  for (const host of all) {
    const { locality: name, localityWeight: weight } = host.description;
    const locality = byName.get(name) ?? { hosts: [], weight, size: 0 };
    byName.set(name, locality);
    locality.size++;
    if (wanted.has(host)) locality.hosts.push(host);
  }
  return [...byName].sort(([a], [b]) => compareLocalities(a, b)).map(([, locality]) => locality);
}

function compareLocalities(a: string, b: string): number {
  const [left, right] = [a.split("/"), b.split("/")];
  const differs = left.findIndex((part, index) => part !== right[index]);
  return differs < 0 ? 0 : left[differs]! < right[differs]! ? -1 : 1;
}

/** What stands for a host in a table: `hash_key` of its metadata, its name, or its address. Bytes by latin1 characters. */
export function hashKey(host: Host, usesHostname: boolean): string {
  const { metadata, hostname } = host.description;
  const own = metadata["envoy.lb"]?.hash_key;
  const key = typeof own === "string" && own !== "" ? own : usesHostname ? hostname : addressOf(host);
  return Buffer.from(key, "utf8").toString("latin1");
}

/** However an IPv6 address is written, it counts in its shortest form. */
function addressOf({ key, description: { address, port } }: Host): string {
  if (port < 0 || !address.includes(":")) return key;
  return hostKey(new SocketAddress({ address, port, family: "ipv6" }).address, port);
}
