import { isIPv6 } from "node:net";

/** Node's sockets look every address up, even one that is an address already: without this each packet waits for a turn of the event loop. */
export function noLookup(address: string, options: unknown, callback?: (error: null, address: string, family: number) => void): void {
  const done = (callback ?? options) as (error: null, address: string, family: number) => void;
  done(null, address, isIPv6(address) ? 6 : 4);
}
