import type { LookupOneOptions } from "node:dns";
import { isIPv6 } from "node:net";

type OnLookup = (error: NodeJS.ErrnoException | null, address: string, family: number) => void;

/** Node's UDP sockets look every address up, even what is one already: without this each packet waits for a turn of the event loop. */
export function noLookup(address: string, _: LookupOneOptions, onLookup: OnLookup): void {
  onLookup(null, address, isIPv6(address) ? 6 : 4);
}
