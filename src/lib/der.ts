/** DER as far as it is read and written here: one element at a time, definite lengths (X.690 8.1, 10.1). */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  /** Where the next element begins. */
  readonly end: number;
}

export const derTag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** A tag whose meaning the surrounding type gives: `[number]`. */
export function contextTag(number: number, kind: "primitive" | "constructed"): number {
  return (kind === "constructed" ? 0xa0 : 0x80) | number;
}

/** The element at `at`; null where there is none, or it is cut. */
export function readDer(bytes: Buffer, at: number): DerElement | null {
  if (at + 2 > bytes.length) return null;
  const tag = bytes[at]!;
  // Tags of more than one byte do not occur in what is read here.
  if ((tag & 0x1f) === 0x1f) return null;
  let length = bytes[at + 1]!;
  let from = at + 2;
  if (length >= 0x80) {
    const size = length & 0x7f;
    if (size === 0 || size > 4 || from + size > bytes.length) return null;
    length = bytes.readUIntBE(from, size);
    from += size;
  }
  const end = from + length;
  return end > bytes.length ? null : { tag, content: bytes.subarray(from, end), end };
}

/** All elements in a row; null when anything is cut. */
export function readDerList(bytes: Buffer): DerElement[] | null {
  const elements: DerElement[] = [];
  for (let at = 0; at < bytes.length; ) {
    const element = readDer(bytes, at);
    if (element === null) return null;
    elements.push(element);
    at = element.end;
  }
  return elements;
}

/** One element around its parts. */
export function writeDer(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  return Buffer.concat([Buffer.from([tag, ...lengthOctets(length)]), ...parts]);
}

function lengthOctets(length: number): number[] {
  if (length < 0x80) return [length];
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return [0x80 | octets.length, ...octets];
}

/** `2.5.29.17` */
export function writeObjectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...arcs] = dotted.split(".").map(Number);
  return writeDer(derTag.objectIdentifier, Buffer.from([first * 40 + second, ...arcs.flatMap(base128)]));
}

function base128(arc: number): number[] {
  const octets = [arc & 0x7f];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) octets.unshift((rest & 0x7f) | 0x80);
  return octets;
}

/** As X.509 wants times: of two digits' years until 2049 (RFC 5280 4.1.2.5). */
export function writeTime(date: Date): Buffer {
  const digits = `${date.toISOString().replaceAll(/[-:T]|\.\d+Z$/g, "")}Z`;
  const isShort = date.getUTCFullYear() < 2050;
  return writeDer(isShort ? derTag.utcTime : derTag.generalizedTime, Buffer.from(isShort ? digits.slice(2) : digits, "latin1"));
}
