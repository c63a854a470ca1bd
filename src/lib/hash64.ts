/**
 * A hash of 64 bits as two halves: numbers hold 53 bits, and BigInt allocates.
 *
 * `high` and `low` may be negative, as JavaScript's bit operations leave them; `>>> 0` makes them unsigned.
 */
export class Hash64 {
  high = 0;
  low = 0;
}

/** The whole number below `divisor`, which is at most 2^26: what is multiplied here stays exact. */
export function modulo({ high, low }: Hash64, divisor: number): number {
  return (((high >>> 0) % divisor) * (4_294_967_296 % divisor) + ((low >>> 0) % divisor)) % divisor;
}

/** Rotates what there is by one bit to the left and mixes `next` in: several hashes as one. */
export function combine(hash: Hash64, next: Hash64): void {
  const { high, low } = hash;
  hash.high = ((high << 1) | (low >>> 31)) ^ next.high;
  hash.low = ((low << 1) | (high >>> 31)) ^ next.low;
}

/** 16 digits, in lower case. */
export function hex({ high, low }: Hash64): string {
  return (high >>> 0).toString(16).padStart(8, "0") + (low >>> 0).toString(16).padStart(8, "0");
}
