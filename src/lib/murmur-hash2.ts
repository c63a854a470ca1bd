/** 64-bit MurmurHash2 (Austin Appleby's MurmurHash64A). The text is bytes by latin1 characters. */
import type { Hash64 } from "./hash64.ts";
import { multiply64, product } from "./multiply64.ts";

const factorHigh = 0xc6a4a793;
const factorLow = 0x5bd1e995;
/** That of libstdc++'s std::hash. */
const standardSeed = 0xc70f6907;

export function murmurHash2(text: string, into: Hash64, seed = standardSeed): void {
  const { length } = text;
  multiply64(0, length, factorHigh, factorLow);
  let high = product.high;
  let low = product.low ^ seed;
  for (let at = 0; at < length; at += 8) {
    let dataLow = word(text, at);
    let dataHigh = word(text, at + 4);
    if (at + 8 <= length) {
      multiply64(dataHigh, dataLow, factorHigh, factorLow);
      multiply64(product.high, product.low ^ (product.high >>> 15), factorHigh, factorLow);
      dataHigh = product.high;
      dataLow = product.low;
    }
    multiply64(high ^ dataHigh, low ^ dataLow, factorHigh, factorLow);
    ({ high, low } = product);
  }
  multiply64(high, low ^ (high >>> 15), factorHigh, factorLow);
  into.high = product.high;
  into.low = product.low ^ (product.high >>> 15);
}

/** Four bytes, the least first; 0 for what is not there. */
function word(text: string, at: number): number {
  let bytes = 0;
  for (let i = 0; i < 4 && at + i < text.length; i++) bytes |= (text.charCodeAt(at + i) & 0xff) << (8 * i);
  return bytes;
}
