/** Records read from a nameserver's answer. Names are followed to their end, for they may point anywhere before them (RFC 1035, 4.1.4). */
import { maxNameBytes, recordType } from "./protocol.ts";

export interface ResourceRecord {
  /** In wire form, nothing compressed. */
  readonly owner: Buffer;
  readonly type: number;
  readonly class: number;
  readonly ttlSeconds: number;
  /** A CNAME's in wire form, nothing compressed. */
  readonly data: Buffer;
}

/** Addresses and CNAMEs of the answer section, which begins at `at`; other types are left out. Undefined when it can't be read. */
export function readAnswers(message: Buffer, at: number): ResourceRecord[] | undefined {
  const records: ResourceRecord[] = [];
  let start = at;
  for (let left = message.readUInt16BE(6); left > 0; left--) {
    const owner = readName(message, start);
    if (!owner || owner.end + 10 > message.length) return undefined;
    const fixed = owner.end;
    const end = fixed + 10 + message.readUInt16BE(fixed + 8);
    if (end > message.length) return undefined;
    const type = message.readUInt16BE(fixed);
    const data = type === recordType.cname ? readName(message, fixed + 10)?.name : message.subarray(fixed + 10, end);
    if (!data) return undefined;
    if (type === recordType.a || type === recordType.aaaa || type === recordType.cname) {
      records.push({ owner: owner.name, type, class: message.readUInt16BE(fixed + 2), ttlSeconds: message.readUInt32BE(fixed + 4), data });
    }
    start = end;
  }
  return records;
}

/** `end`: behind the name where it stands. */
function readName(message: Buffer, start: number): { readonly name: Buffer; readonly end: number } | undefined {
  const name = Buffer.allocUnsafe(maxNameBytes);
  let length = 0;
  let at = start;
  let end: number | undefined;
  for (;;) {
    const label = message[at];
    if (label === undefined) return undefined;
    if ((label & 0xc0) === 0xc0) {
      if (at + 2 > message.length) return undefined;
      const target = message.readUInt16BE(at) & 0x3fff;
      end ??= at + 2;
      // Only backwards: so it ends.
      if (target >= at) return undefined;
      at = target;
      continue;
    }
    if (label > 63 || at + 1 + label > message.length || length + 1 + label > maxNameBytes) return undefined;
    length += message.copy(name, length, at, at + 1 + label);
    at += 1 + label;
    if (label === 0) return { name: name.subarray(0, length), end: end ?? at };
  }
}
