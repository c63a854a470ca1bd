/** DER as far as it is read here: one element at a time, definite lengths (X.690 8.1, 10.1). */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  /** Where the next element begins. */
  readonly end: number;
}

export const derTag = {
  integer: 0x02,
  octetString: 0x04,
  objectIdentifier: 0x06,
  enumerated: 0x0a,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const;

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
