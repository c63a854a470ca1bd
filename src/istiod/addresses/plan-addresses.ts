/** Which ServiceEntries need other addresses in their status than they have. Pure, but for the pool and the memory that it is given. */
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Service } from "../../api/kinds/service.ts";
import type { ServiceEntry } from "../../api/kinds/service-entry.ts";
import { AllocatedAddresses, hostsWithoutAddress, statusAddresses } from "../../registry/allocated-addresses.ts";
import { serviceKey } from "../../registry/service.ts";
import type { AddressPool } from "./address-pool.ts";

/** As Istio's status has it. */
export interface StatusAddress {
  readonly value: string;
  readonly host: string;
}

export interface AddressPlan {
  readonly writes: readonly { readonly entry: ConfigObject<ServiceEntry>; readonly addresses: readonly StatusAddress[] }[];
  /** Hosts for which there was nothing left. */
  readonly unserved: readonly string[];
}

export interface AddressPlanInput {
  /** Oldest first, as are the services. */
  readonly entries: readonly ConfigObject<ServiceEntry>[];
  readonly services: readonly ConfigObject<Service>[];
  readonly domain: string;
  /** The others get their addresses by hash. */
  readonly isWritable: (object: ConfigObject) => boolean;
}

/** `remembered`: what hosts had, by service key; an entry that is made anew, or written without its status, gets it back. */
export function planAddresses(input: AddressPlanInput, pool: AddressPool, remembered: Map<string, readonly string[]>): AddressPlan {
  const allocated = new AllocatedAddresses(input.entries, input.services, input.domain, input.isWritable);
  const claimed = new Set<string>();
  const isTaken = (address: string) => allocated.isTaken(address) || claimed.has(address);
  const writes: AddressPlan["writes"][number][] = [];
  const unserved: string[] = [];

  const addressesOf = (key: string, listed: readonly string[]): readonly string[] | undefined => {
    if (listed.length > 0 && listed.every((address) => allocated.isOwnedBy(key, address))) return listed;
    const before = remembered.get(key);
    const given = before && !before.some(isTaken) ? before : pool.take(isTaken);
    for (const address of given ?? []) claimed.add(address);
    return given;
  };

  for (const entry of input.entries.filter(input.isWritable)) {
    const listed = statusAddresses(entry);
    const addresses: StatusAddress[] = [];
    for (const host of hostsWithoutAddress(entry)) {
      const key = serviceKey(host, entry.metadata.namespace);
      const given = addressesOf(key, listed.get(host) ?? []);
      if (given) remembered.set(key, given);
      else unserved.push(key);
      addresses.push(...(given ?? []).map((value) => ({ value, host })));
    }
    const present = (entry.status as { addresses?: unknown } | undefined)?.addresses ?? [];
    if (JSON.stringify(addresses) !== JSON.stringify(present)) writes.push({ entry, addresses });
  }
  return { writes, unserved };
}
