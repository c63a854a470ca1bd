/** IP addresses and CIDR ranges as 32-bit words, so that a comparison is integers and no text. */
import { isIP, SocketAddress } from "node:net";

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

/** The address with only the first `prefixLength` bits, as text in its shortest form; `text` is an IP address. */
export function maskedIp(text: string, prefixLength: number): string {
  const words = parseIp(text)!.map((word, index) => (word & maskOf(prefixLength - 32 * index)) >>> 0);
  if (words.length === 1) return [24, 16, 8, 0].map((shift) => (words[0]! >>> shift) & 255).join(".");
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]).map((group) => group.toString(16));
  return new SocketAddress({ family: "ipv6", address: groups.join(":") }).address;
}

/** Of `1.2.3.4:80`, `[::1]:80` or a bare IP address; null for what is none, such as a path. */
export function ipOf(address: string): string | null {
  if (isIP(address) !== 0) return address;
  const ip = address.replace(/^\[?(.*?)\]?:\d+$/, "$1");
  return isIP(ip) === 0 ? null : ip;
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
