import { describe, expect, it } from "vitest";
import { combine, Hash64, hex, modulo } from "./hash64.ts";
import { murmurHash2 } from "./murmur-hash2.ts";
import { xxHash64 } from "./xx-hash64.ts";

const hash = new Hash64();

function xx(text: string, seedHigh?: number, seedLow?: number): string {
  xxHash64(text, hash, seedHigh, seedLow);
  return hex(hash);
}

function murmur(text: string, seed?: number): string {
  murmurHash2(text, hash, seed);
  return BigInt(`0x${hex(hash)}`).toString();
}

/** The bytes of xxHash's own self-test. */
function sanityBytes(length: number): string {
  let state = 2_654_435_761n;
  let text = "";
  for (let i = 0; i < length; i++) {
    text += String.fromCharCode(Number(state >> 56n));
    state = (state * 11_400_714_785_074_694_797n) & 0xffff_ffff_ffff_ffffn;
  }
  return text;
}

describe("xxHash64", () => {
  /** From the tests of the reference implementation, and of Envoy's HashUtil. */
  it.each([
    ["", "ef46db3751d8e999"],
    ["a", "d24ec4f1a98c6e5b"],
    ["as", "1c330fb2d66be179"],
    ["asd", "631c37ce72a97393"],
    ["asdf", "415872f599cea71e"],
    ["foo", "33bf00a859c4ba3f"],
    ["bar", "48a37c90ad27a659"],
    ["lyft", 4_400_747_396_090_729_504n.toString(16)],
    ["Call me Ishmael. Some years ago--never mind how long precisely-", "02a2e85470d6fd96"],
  ])("hashes %j", (text, expected) => expect(xx(text)).toBe(expected));

  /** XXH64 of sanity_check.c: with seed 0, and with the seed 0x9e3779b1. */
  it.each([
    [0, "ef46db3751d8e999", "ac75fda2929b17ef"],
    [1, "e934a84adb052768", "5014607643a9b4c3"],
    [4, "9136a0dca57457ee", "caab286bd8e9fdb5"],
    [14, "8282dcc4994e35c8", "c3bd6bf63deb6df0"],
    [222, "b641ae8cb691c174", "20cb8ab7ae10c14a"],
  ])("hashes %i bytes, with a seed and without", (length, expected, seeded) => {
    expect(xx(sanityBytes(length))).toBe(expected);
    expect(xx(sanityBytes(length), 0, 0x9e3779b1)).toBe(seeded);
  });

  it("goes on from another hash", () => {
    // Envoy's test of a list of values.
    xxHash64("foo", hash);
    xxHash64("bar", hash, hash.high, hash.low);
    expect(BigInt(`0x${hex(hash)}`)).toBe(17_745_830_980_996_999_794n);
  });

  it("is the same as with BigInt, for all lengths and seeds of 64 bits", () => {
    for (let length = 0; length < 130; length++) {
      const text = sanityBytes(length);
      for (const [high, low] of [
        [0, 0],
        [0xdead_beef, 0x1234_5678],
        [-1, -1],
      ] as const) {
        const seed = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
        expect(xx(text, high, low)).toBe(withBigInt(Buffer.from(text, "latin1"), seed));
      }
    }
  });
});

const prime1 = 0x9e3779b185ebca87n;
const prime2 = 0xc2b2ae3d27d4eb4fn;
const prime3 = 0x165667b19e3779f9n;
const prime4 = 0x85ebca77c2b2ae63n;
const prime5 = 0x27d4eb2f165667c5n;
const cut = (value: bigint) => BigInt.asUintN(64, value);
const rotated = (value: bigint, bits: bigint) => cut((value << bits) | (value >> (64n - bits)));
const round = (lane: bigint, input: bigint) => cut(rotated(cut(lane + input * prime2), 31n) * prime1);

/** The specification, literally. */
function withBigInt(bytes: Buffer, seed: bigint): string {
  let at = 0;
  let sum = cut(seed + prime5);
  if (bytes.length >= 32) {
    const lanes = [seed + prime1 + prime2, seed + prime2, seed, seed - prime1].map(cut);
    for (; at + 32 <= bytes.length; at += 32) for (let i = 0; i < 4; i++) lanes[i] = round(lanes[i]!, bytes.readBigUInt64LE(at + 8 * i));
    sum = cut(lanes.reduce((total, lane, i) => total + rotated(lane, [1n, 7n, 12n, 18n][i]!), 0n));
    for (const lane of lanes) sum = cut((sum ^ round(0n, lane)) * prime1 + prime4);
  }
  sum = cut(sum + BigInt(bytes.length));
  for (; at + 8 <= bytes.length; at += 8) sum = cut(rotated(sum ^ round(0n, bytes.readBigUInt64LE(at)), 27n) * prime1 + prime4);
  if (at + 4 <= bytes.length) {
    sum = cut(rotated(sum ^ cut(BigInt(bytes.readUInt32LE(at)) * prime1), 23n) * prime2 + prime3);
    at += 4;
  }
  for (; at < bytes.length; at++) sum = cut(rotated(sum ^ cut(BigInt(bytes[at]!) * prime5), 11n) * prime1);
  sum = cut((sum ^ (sum >> 33n)) * prime2);
  sum = cut((sum ^ (sum >> 29n)) * prime3);
  return (sum ^ (sum >> 32n)).toString(16).padStart(16, "0");
}

describe("MurmurHash2", () => {
  /** From the tests of Envoy (seed of std::hash) and of Apache Kudu. */
  it.each([
    ["foo", undefined, "9631199822919835226"],
    ["ab", 0, "7115271465109541368"],
    ["abcdefg", 0, "2601573339036254301"],
    ["quick brown fox", 42, "3575930248840144026"],
  ])("hashes %j with seed %s", (text, seed, expected) => expect(murmur(text, seed)).toBe(expected));
});

describe("Hash64", () => {
  it("is divided and combined as 64 bits", () => {
    const value = Object.assign(new Hash64(), { high: 0x89abcdef | 0, low: -5 });
    const whole = 0x89abcdef_fffffffbn;
    for (const divisor of [1, 2, 100, 251, 65_537, 5_000_011]) expect(modulo(value, divisor)).toBe(Number(whole % BigInt(divisor)));
    const next = Object.assign(new Hash64(), { high: 1, low: 2 });
    combine(value, next);
    expect(hex(value)).toBe((rotated(whole, 1n) ^ 0x1_0000_0002n).toString(16).padStart(16, "0"));
  });
});
