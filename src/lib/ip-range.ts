/** IP addresses and CIDR ranges as 32-bit words, so that a comparison is integers and no text. */
import { isIP } from "node:net";

/** One word for IPv4, four for IPv6, most significant first. */
export type IpWords = readonly number[];

/** null when the text is no IP address. A zone (`fe80::1%eth0`) is left out. */
export function parseIp(text: string): IpWords | null {
  switch (isIP(text)) {
    case 4:
      return [wordOf(text)];
    case 6:
      return ipv6Words(text);
    default:
      return null;
  }
}

function wordOf(text: string): number {
  const [a, b, c, d] = text.split(".").map(Number) as [number, number, number, number];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

function ipv6Words(text: string): IpWords {
  const zone = text.indexOf("%");
  const [head = "", tail] = (zone < 0 ? text : text.slice(0, zone)).split("::");
  const first = groupsOf(head);
  const last = tail === undefined ? [] : groupsOf(tail);
  const groups = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return [0, 2, 4, 6].map((at) => ((groups[at]! << 16) | groups[at + 1]!) >>> 0);
}

/** The last group may be an IPv4 address. */
function groupsOf(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const word = wordOf(group);
    return [word >>> 16, word & 0xffff];
  });
}

export class IpRange {
  readonly #base: IpWords;
  readonly #masks: IpWords;

  /** A length beyond the address's own bits is taken for all of them, bits of `base` beyond the length don't count. */
  constructor(base: IpWords, prefixLength: number) {
    this.#masks = base.map((_, index) => maskOf(prefixLength - 32 * index));
    this.#base = base.map((word, index) => (word & this.#masks[index]!) >>> 0);
  }

  /** Addresses of the other family are in no range. Hot. */
  contains(address: IpWords): boolean {
    const base = this.#base;
    if (address.length !== base.length) return false;
    for (let i = 0; i < base.length; i++) if ((address[i]! & this.#masks[i]!) >>> 0 !== base[i]) return false;
    return true;
  }
}

/** A word whose first `bits` are set. */
function maskOf(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? 0xffff_ffff : (0xffff_ffff << (32 - bits)) >>> 0;
}
