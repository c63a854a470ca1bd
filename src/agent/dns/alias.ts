/**
 * Names that stand for another whose addresses only the nameservers know: they are asked for that one, and what they say is given
 * behind a CNAME, for a client that asks does not follow one by itself.
 */

import { type Known, ttlSeconds } from "./lookup-table.ts";
import { flag, headerBytes, recordType } from "./protocol.ts";
import type { Query } from "./query.ts";
import { type ResourceRecord, readAnswers } from "./resource-records.ts";
import { writeHead, writeOpt } from "./response.ts";
import type { Question } from "./upstream-exchange.ts";

/** The client's question, with the name that was meant in the place of its own. */
export function aliasQuestion(packet: Buffer, query: Query, { aliasOf }: Known): Question {
  const name = Buffer.from(aliasOf, "latin1");
  const head = packet.subarray(0, headerBytes);
  const rest = packet.subarray(query.questionEnd - 4);
  return { packet: Buffer.concat([head, name, rest]), questionEnd: headerBytes + name.length + 4 };
}

/** Undefined when the nameserver's answer can't be read. */
export function aliasResponse(packet: Buffer, query: Query, known: Known, response: Buffer, maxBytes: number): Buffer | undefined {
  const target = Buffer.from(known.aliasOf, "latin1");
  const found = readAnswers(response, headerBytes + target.length + 4);
  if (!found) return undefined;
  const asked = packet.subarray(headerBytes, query.questionEnd - 4);
  const cname = (owner: Buffer, data: Buffer) => ({ owner, type: recordType.cname, class: 1, ttlSeconds, data });
  const meant = known.suffixBytes === 0 ? asked : Buffer.concat([asked.subarray(0, -known.suffixBytes - 1), Buffer.of(0)]);
  const records = [...(meant === asked ? [] : [cname(asked, meant)]), cname(meant, target), ...found].map(encodeRecord);

  const optBytes = query.hasEdns ? 11 : 0;
  const fitting: Buffer[] = [];
  let size = query.questionEnd + optBytes;
  for (const record of records) {
    size += record.length;
    if (size > maxBytes) break;
    fitting.push(record);
  }
  const code = response[3]! & 15;
  const isTruncated = fitting.length < records.length || (response.readUInt16BE(2) & flag.truncated) !== 0;
  const head = Buffer.allocUnsafe(query.questionEnd);
  writeHead(head, packet, query, code, isTruncated ? flag.truncated : 0, fitting.length);
  const tail = Buffer.allocUnsafe(optBytes);
  if (query.hasEdns) writeOpt(tail, 0, query, code);
  return Buffer.concat([head, ...fitting, tail]);
}

function encodeRecord({ owner, type, class: recordClass, ttlSeconds: ttl, data }: ResourceRecord): Buffer {
  const fixed = Buffer.allocUnsafe(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(recordClass, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, fixed, data]);
}
