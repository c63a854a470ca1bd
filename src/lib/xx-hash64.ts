/**
 * xxHash64 (Yann Collet), without BigInt: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
 *
 * The text is bytes by latin1 characters, as headers are. Hot: nothing is allocated.
 */
import type { Hash64 } from "./hash64.ts";
import { multiply64, product } from "./multiply64.ts";

const prime1High = 0x9e3779b1;
const prime1Low = 0x85ebca87;
const prime2High = 0xc2b2ae3d;
const prime2Low = 0x27d4eb4f;
const prime3High = 0x165667b1;
const prime3Low = 0x9e3779f9;
const prime4High = 0x85ebca77;
const prime4Low = 0xc2b2ae63;
const prime5High = 0x27d4eb2f;
const prime5Low = 0x165667c5;

/** Accumulators of the four lanes, high and low halves by turns; each call sets them first. */
const lanes = new Int32Array(8);
/** The hash in the making. */
let high = 0;
let low = 0;

/** `into` is written when everything else was read: its own halves may be the seed. */
export function xxHash64(text: string, into: Hash64, seedHigh = 0, seedLow = 0): void {
  const { length } = text;
  let at = 0;
  if (length >= 32) {
    startLanes(seedHigh, seedLow);
    for (; at + 32 <= length; at += 32) {
      for (let lane = 0; lane < 4; lane++) consume(lane, word(text, at + lane * 8 + 4), word(text, at + lane * 8));
    }
    mergeLanes();
  } else {
    high = prime5High;
    low = prime5Low;
    add(seedHigh, seedLow);
  }
  add(0, length);
  for (; at + 8 <= length; at += 8) {
    mixed(word(text, at + 4), word(text, at));
    high ^= product.high;
    low ^= product.low;
    rotate(27);
    multiplyAdd(prime1High, prime1Low, prime4High, prime4Low);
  }
  if (at + 4 <= length) {
    multiply64(0, word(text, at), prime1High, prime1Low);
    high ^= product.high;
    low ^= product.low;
    rotate(23);
    multiplyAdd(prime2High, prime2Low, prime3High, prime3Low);
    at += 4;
  }
  for (; at < length; at++) {
    multiply64(0, text.charCodeAt(at) & 0xff, prime5High, prime5Low);
    high ^= product.high;
    low ^= product.low;
    rotate(11);
    multiplyAdd(prime1High, prime1Low, 0, 0);
  }
  // h ^= h >> 33; h *= prime2; h ^= h >> 29; h *= prime3; h ^= h >> 32
  low ^= high >>> 1;
  multiplyAdd(prime2High, prime2Low, 0, 0);
  low ^= (high << 3) | (low >>> 29);
  high ^= high >>> 29;
  multiplyAdd(prime3High, prime3Low, 0, 0);
  into.high = high;
  into.low = low ^ high;
}

/** Four bytes, the least first. */
function word(text: string, at: number): number {
  return (
    (text.charCodeAt(at) & 0xff) |
    ((text.charCodeAt(at + 1) & 0xff) << 8) |
    ((text.charCodeAt(at + 2) & 0xff) << 16) |
    (text.charCodeAt(at + 3) << 24)
  );
}

function startLanes(seedHigh: number, seedLow: number): void {
  high = seedHigh;
  low = seedLow;
  setLane(2);
  add(prime2High, prime2Low);
  setLane(1);
  add(prime1High, prime1Low);
  setLane(0);
  // seed - prime1
  high = seedHigh;
  low = seedLow;
  add(~prime1High, ~prime1Low);
  add(0, 1);
  setLane(3);
}

function setLane(lane: number): void {
  lanes[lane * 2] = high;
  lanes[lane * 2 + 1] = low;
}

function consume(lane: number, inputHigh: number, inputLow: number): void {
  high = lanes[lane * 2]!;
  low = lanes[lane * 2 + 1]!;
  multiply64(inputHigh, inputLow, prime2High, prime2Low);
  add(product.high, product.low);
  rotate(31);
  multiply64(high, low, prime1High, prime1Low);
  lanes[lane * 2] = product.high;
  lanes[lane * 2 + 1] = product.low;
}

function mergeLanes(): void {
  let sumHigh = 0;
  let sumLow = 0;
  for (const [lane, bits] of rotations.entries()) {
    high = lanes[lane * 2]!;
    low = lanes[lane * 2 + 1]!;
    rotate(bits);
    add(sumHigh, sumLow);
    sumHigh = high;
    sumLow = low;
  }
  for (let lane = 0; lane < 4; lane++) {
    mixed(lanes[lane * 2]!, lanes[lane * 2 + 1]!);
    high ^= product.high;
    low ^= product.low;
    multiplyAdd(prime1High, prime1Low, prime4High, prime4Low);
  }
}

const rotations = [1, 7, 12, 18];

/** A round that begins at 0: its result is the product. */
function mixed(inputHigh: number, inputLow: number): void {
  multiply64(inputHigh, inputLow, prime2High, prime2Low);
  const { high: h, low: l } = product;
  multiply64((h << 31) | (l >>> 1), (l << 31) | (h >>> 1), prime1High, prime1Low);
}

function add(addHigh: number, addLow: number): void {
  const sum = (low >>> 0) + (addLow >>> 0);
  high = (high + addHigh + (sum > 0xffffffff ? 1 : 0)) | 0;
  low = sum | 0;
}

/** By less than 32 bits, to the left. */
function rotate(bits: number): void {
  const h = high;
  high = (h << bits) | (low >>> (32 - bits));
  low = (low << bits) | (h >>> (32 - bits));
}

function multiplyAdd(byHigh: number, byLow: number, addHigh: number, addLow: number): void {
  multiply64(high, low, byHigh, byLow);
  high = product.high;
  low = product.low;
  add(addHigh, addLow);
}
