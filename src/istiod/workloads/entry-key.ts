/** Names of WorkloadEntries, and whose they may be. */
import { status } from "@grpc/grpc-js";
import { StreamRefused } from "../../ads/server.ts";
import type { ObjectKey } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { SpiffeId } from "../../api/spiffe.ts";

export type EntryKey = ObjectKey & { readonly kind: "WorkloadEntry" };

/** Of an object in Kubernetes. */
const maxNameLength = 253;

export function entryKey(namespace: string, name: string): EntryKey {
  return { kind: "WorkloadEntry", namespace, name };
}

export function entryId({ namespace, name }: EntryKey): string {
  return `${namespace}/${name}`;
}

/** `ratings-10.0.0.5`, with a network `ratings-10.0.0.5-edge`; what is too long is cut at its beginning. */
export function registeredEntryName(group: string, { ipAddresses, network }: ProxyNode): string {
  const address = ipAddresses[0]!.replaceAll(":", "-");
  return [group, address, ...(network ? [network] : [])].join("-").slice(-maxNameLength);
}

/** An entry is an identity's: nobody may take traffic that is meant for another account. Throws StreamRefused. */
export function refuseStrangers(key: EntryKey, serviceAccount: string, identities: readonly SpiffeId[] | undefined): void {
  if (identities === undefined)
    throw new StreamRefused(status.PERMISSION_DENIED, "registration of a WorkloadEntry needs an identity: connect by TLS");
  const isOwn = identities.some((one) => one.namespace === key.namespace && (!serviceAccount || one.serviceAccount === serviceAccount));
  if (isOwn) return;
  const wanted = `namespace ${key.namespace}${serviceAccount ? ` and service account ${serviceAccount}` : ""}`;
  throw new StreamRefused(status.PERMISSION_DENIED, `registration of WorkloadEntry ${entryId(key)} needs an identity of ${wanted}`);
}
