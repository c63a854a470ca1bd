/**
 * The name of an encoded resource, without decoding the rest: field 1 of clusters, endpoints, routes, listeners and secrets, which every encoder
 * writes first. Undefined for one that begins otherwise.
 *
 * What is found may be wrong where a message says its name twice, so it only serves to find what the bytes are compared with.
 */
const nameTag = (1 << 3) | 2;

export function encodedName(bytes: Uint8Array): string | undefined {
  if (bytes[0] !== nameTag) return undefined;
  let length = 0;
  let at = 1;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    if (byte === undefined || shift > 21) return undefined;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return at + length > bytes.length ? undefined : Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("utf8");
}

export function isSameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && Buffer.compare(one, other) === 0;
}
