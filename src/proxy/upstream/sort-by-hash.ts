/** Radix sort of 64-bit hashes in halves: a ring has up to millions of places, and a comparing sort of those takes seconds. */
const digitBits = 11;
const digits = 1 << digitBits;

/** Indices of the hashes in ascending order; equal ones stay in theirs. */
export function sortByHash(high: Uint32Array, low: Uint32Array): Uint32Array {
  let order = Uint32Array.from(low.keys());
  let sorted = new Uint32Array(order.length);
  const counts = new Uint32Array(digits);
  for (const half of [low, high]) {
    for (let shift = 0; shift < 32; shift += digitBits) {
      counts.fill(0);
      for (let i = 0; i < half.length; i++) counts[(half[i]! >>> shift) & (digits - 1)]!++;
      let at = 0;
      for (let digit = 0; digit < digits; digit++) {
        const count = counts[digit]!;
        counts[digit] = at;
        at += count;
      }
      for (let i = 0; i < order.length; i++) {
        const index = order[i]!;
        sorted[counts[(half[index]! >>> shift) & (digits - 1)]!++] = index;
      }
      [order, sorted] = [sorted, order];
    }
  }
  return order;
}
