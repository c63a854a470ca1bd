/**
 * HPACK's Huffman code (RFC 7541, appendix B). It is canonical: within a length codes ascend with the symbol, so the lengths say it all.
 */

/** Bits of each symbol's code; the last is the end of a string. */
// biome-ignore format: a table
const lengths = new Uint8Array([
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
]);
const endOfString = 256;
const longest = 30;
/** Text is mostly of codes that short: one look decides. */
const quickBits = 9;

/** Symbols in the order of their codes. */
const symbols = new Uint16Array(lengths.length);
/** By length: the first code, and where its symbol stands in `symbols`. */
const firstCode = new Uint32Array(longest + 2);
const firstAt = new Uint16Array(longest + 2);
/** By the next bits: symbol << 4 | length; 0 where the code is longer. */
const quick = new Uint16Array(1 << quickBits);

let code = 0;
let at = 0;
for (let length = 1; length <= longest; length++) {
  firstCode[length] = code;
  firstAt[length] = at;
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    if (lengths[symbol] !== length) continue;
    symbols[at++] = symbol;
    if (length <= quickBits) quick.fill((symbol << 4) | length, code << (quickBits - length), (code + 1) << (quickBits - length));
    code++;
  }
  code *= 2;
}
firstAt[longest + 1] = at;

let output = Buffer.allocUnsafeSlow(4096);

/** latin1 text; null for bytes that are none of the code's. Hot. */
export function decodeHuffman(bytes: Buffer, from: number, to: number): string | null {
  const most = ((to - from) * 8) / 5;
  if (output.length < most) output = Buffer.allocUnsafeSlow(Math.ceil(most));
  let length = 0;
  let bits = 0;
  let count = 0;
  let next = from;
  for (;;) {
    while (count <= 24 && next < to) {
      bits = ((bits << 8) | bytes[next++]!) >>> 0;
      count += 8;
    }
    if (count === 0) break;
    const peek = count >= quickBits ? (bits >>> (count - quickBits)) & 0x1ff : (bits << (quickBits - count)) & 0x1ff;
    const found = quick[peek]!;
    if (found !== 0 && (found & 15) <= count) {
      output[length++] = found >>> 4;
      count -= found & 15;
      bits &= mask(count);
      continue;
    }
    // What is left over at the end is the beginning of the end's code, and less than a byte of it.
    if (next >= to && count < 8 && bits === mask(count)) break;
    const long = decodeLong(bits, count);
    if (long < 0) return null;
    const symbol = long & 0x1ff;
    if (symbol === endOfString) return null;
    output[length++] = symbol;
    count -= long >>> 9;
    bits &= mask(count);
  }
  return output.latin1Slice(0, length);
}

function mask(count: number): number {
  return count >= 32 ? 0xffff_ffff : (1 << count) - 1;
}

/** length << 9 | symbol; negative when there is none. */
function decodeLong(bits: number, count: number): number {
  for (let length = 1; length <= longest && length <= count; length++) {
    const prefix = bits >>> (count - length);
    const offset = prefix - firstCode[length]!;
    const size = firstAt[length + 1]! - firstAt[length]!;
    if (offset >= 0 && offset < size) return (length << 9) | symbols[firstAt[length]! + offset]!;
  }
  return -1;
}
