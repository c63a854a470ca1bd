/**
 * 64-bit multiplication on halves. The product is left in `product` instead of returned: hashing a request must not allocate.
 */
export const product = { high: 0, low: 0 };

/** a * b modulo 2^64. Hot. */
export function multiply64(aHigh: number, aLow: number, bHigh: number, bLow: number): void {
  const a0 = aLow & 0xffff;
  const a1 = aLow >>> 16;
  const b0 = bLow & 0xffff;
  const b1 = bLow >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const carried = a0 * b1 + (middle & 0xffff);
  product.high = (a1 * b1 + (middle >>> 16) + (carried >>> 16) + Math.imul(aHigh, bLow) + Math.imul(aLow, bHigh)) | 0;
  product.low = Math.imul(aLow, bLow);
}
