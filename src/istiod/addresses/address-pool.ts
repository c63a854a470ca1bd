/** Addresses one after the other, 240.240.0.1 and 2001:2::1 first. Istio's ranges, which lead nowhere outside a mesh. */
import type { AddressPair } from "../../registry/hashed-address.ts";

const last = 0xffff;

export class AddressPool {
  #next = 1;

  /**
   * The next pair that is free, or undefined when none is left. Goes on from the last one, and round at the end: what somebody gave up
   * is not another's before all else has been.
   */
  take(isTaken: (address: string) => boolean): AddressPair | undefined {
    for (let tried = 0; tried < last; tried++) {
      const number = this.#next;
      this.#next = number === last ? 1 : number + 1;
      const pair = [`240.240.${number >> 8}.${number & 255}`, `2001:2::${number.toString(16)}`] as const;
      if (!pair.some(isTaken)) return pair;
    }
    return undefined;
  }
}
