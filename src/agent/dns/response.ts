/** Answers of our own, written behind a copy of the question. Hot: an answer is one buffer, filled once. */
import type { AddressRecords, Known } from "./lookup-table.ts";
import { ttlSeconds } from "./lookup-table.ts";
import { classInternet, flag, headerBytes, rcode, recordType } from "./protocol.ts";
import type { Query } from "./query.ts";

const optBytes = 11;
/** What we take over UDP, as EDNS announces it: what passes any network in one piece. */
const ownUdpBytes = 1232;
/** Owner (a pointer), type, class, time to live, length of what follows. */
const recordHeaderBytes = 12;

/** Without records: a code, or that there is nothing of the type that was asked for. */
export function emptyResponse(packet: Buffer, query: Query, code: number, extraFlags = 0): Buffer {
  const response = Buffer.allocUnsafe(query.questionEnd + (query.hasEdns ? optBytes : 0));
  writeHead(response, packet, query, code, extraFlags, 0);
  if (query.hasEdns) writeOpt(response, query.questionEnd, query, code);
  return response;
}

/**
 * The addresses in random order, as many as go into `maxBytes`; with less than all of them it says so (TC). A name that resolvers put
 * together with their search domain leads to the one that was meant by a CNAME before them.
 */
export function addressResponse(packet: Buffer, query: Query, known: Known, maxBytes: number): Buffer {
  const records = query.type === recordType.a ? known.a : known.aaaa;
  if (records.count === 0) return emptyResponse(packet, query, rcode.ok, flag.authoritative);
  const { suffixBytes } = known;
  const nameBytes = query.questionEnd - headerBytes - 4 - suffixBytes;
  const aliasBytes = suffixBytes === 0 ? 0 : recordHeaderBytes + nameBytes;
  const fixedBytes = query.questionEnd + aliasBytes + (query.hasEdns ? optBytes : 0);
  const room = Math.floor((maxBytes - fixedBytes) / records.recordBytes);
  if (room < 0) return emptyResponse(packet, query, rcode.ok, flag.authoritative | flag.truncated);
  const count = Math.min(records.count, room);
  const response = Buffer.allocUnsafe(fixedBytes + count * records.recordBytes);
  const isTruncated = count < records.count;
  const flags = flag.authoritative | (isTruncated ? flag.truncated : 0);
  writeHead(response, packet, query, rcode.ok, flags, count + (suffixBytes === 0 ? 0 : 1));
  let at = query.questionEnd;
  if (suffixBytes > 0) {
    at = writeRecordHeader(response, at, recordType.cname, nameBytes);
    packet.copy(response, at, headerBytes, headerBytes + nameBytes - 1);
    response[at + nameBytes - 1] = 0;
    at += nameBytes;
  }
  at = writeShuffled(response, at, records, count);
  // The owner of the addresses is then the name that the CNAME leads to.
  if (suffixBytes > 0) {
    const owner = 0xc000 | (query.questionEnd + recordHeaderBytes);
    for (let i = 1; i <= count; i++) response.writeUInt16BE(owner, at - i * records.recordBytes);
  }
  if (query.hasEdns) writeOpt(response, at, query, rcode.ok);
  return response;
}

export function writeHead(response: Buffer, packet: Buffer, query: Query, code: number, extraFlags: number, answers: number): void {
  packet.copy(response, 0, 0, query.questionEnd);
  const kept = packet.readUInt16BE(2) & (flag.opcode | flag.recursionDesired | flag.checkingDisabled);
  response.writeUInt16BE(flag.response | flag.recursionAvailable | kept | extraFlags | (code & 15), 2);
  response.writeUInt16BE(query.questionEnd === headerBytes ? 0 : 1, 4);
  response.writeUInt16BE(answers, 6);
  response.writeUInt16BE(0, 8);
  response.writeUInt16BE(query.hasEdns ? 1 : 0, 10);
}

/** The record's owner is the question's name. Returns the offset behind it. */
function writeRecordHeader(response: Buffer, at: number, type: number, dataBytes: number): number {
  response.writeUInt16BE(0xc000 | headerBytes, at);
  response.writeUInt16BE(type, at + 2);
  response.writeUInt16BE(classInternet, at + 4);
  response.writeUInt32BE(ttlSeconds, at + 6);
  response.writeUInt16BE(dataBytes, at + 10);
  return at + recordHeaderBytes;
}

export function writeOpt(response: Buffer, at: number, query: Query, code: number): void {
  response[at] = 0;
  response.writeUInt16BE(recordType.opt, at + 1);
  response.writeUInt16BE(ownUdpBytes, at + 3);
  response[at + 5] = code >> 4;
  response[at + 6] = 0;
  response.writeUInt16BE(query.wantsDnssec ? 0x8000 : 0, at + 7);
  response.writeUInt16BE(0, at + 9);
}

/** Grows to the longest list there is. */
let order = new Uint16Array(64);

/** Each client starts with another address: who takes the first spreads its connections. */
function writeShuffled(response: Buffer, start: number, { bytes, recordBytes, count: total }: AddressRecords, count: number): number {
  if (total === 1) {
    bytes.copy(response, start, 0, count * recordBytes);
    return start + count * recordBytes;
  }
  if (order.length < total) order = new Uint16Array(total);
  for (let i = 0; i < total; i++) order[i] = i;
  let at = start;
  for (let i = 0; i < count; i++) {
    const chosen = i + Math.floor(Math.random() * (total - i));
    const record = order[chosen]!;
    order[chosen] = order[i]!;
    bytes.copy(response, at, record * recordBytes, (record + 1) * recordBytes);
    at += recordBytes;
  }
  return at;
}
