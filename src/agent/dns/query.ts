/**
 * A query read from its packet. One object is used for all queries of a listener, so that a query costs a string and nothing else; who
 * needs a value beyond the next packet keeps the value.
 */
import { flag, headerBytes, maxNameBytes, minUdpBytes, rcode, recordType } from "./protocol.ts";

/** What is to become of a packet: it can be worked on; it is to be answered by a code; or not at all. */
export type Reading = "query" | "refuse" | "ignore";

export class Query {
  /** The name as it stands in the packet, in lower case: labels with their lengths, one character a byte. */
  name = "";
  type = 0;
  class = 0;
  /** Offset behind the question; that of the question itself where there is none that can be read. */
  questionEnd = headerBytes;
  /** What the client takes over UDP. */
  maxUdpBytes = minUdpBytes;
  hasEdns = false;
  wantsDnssec = false;
  /** Why it is refused. */
  refusal: number = rcode.ok;

  /** Garbage is told apart from queries here, whatever its form: nothing throws. Hot. */
  read(packet: Buffer): Reading {
    this.questionEnd = headerBytes;
    this.maxUdpBytes = minUdpBytes;
    this.hasEdns = false;
    this.wantsDnssec = false;
    // Who answers an answer talks to itself in the end.
    if (packet.length < headerBytes || (packet[2]! & 0x80) !== 0) return "ignore";
    if ((packet.readUInt16BE(2) & flag.opcode) !== 0) return this.#refuse(rcode.notImplemented);
    const additional = packet.readUInt16BE(10);
    // One question, and nothing else but EDNS and a signature.
    if (packet.readUInt16BE(4) !== 1 || packet.readUInt32BE(6) !== 0 || additional > 2) return this.#refuse(rcode.formatError);

    const nameEnd = endOfName(packet, headerBytes);
    if (nameEnd < 0 || nameEnd + 4 > packet.length) return this.#refuse(rcode.formatError);
    this.name = packet.latin1Slice(headerBytes, nameEnd).toLowerCase();
    this.type = packet.readUInt16BE(nameEnd);
    this.class = packet.readUInt16BE(nameEnd + 2);
    this.questionEnd = nameEnd + 4;
    return additional === 0 && packet.length === this.questionEnd ? "query" : this.#readAdditional(packet, additional);
  }

  #readAdditional(packet: Buffer, count: number): Reading {
    let at = this.questionEnd;
    for (let i = 0; i < count; i++) {
      const nameEnd = endOfName(packet, at);
      if (nameEnd < 0 || nameEnd + 10 > packet.length) return this.#refuse(rcode.formatError);
      const end = nameEnd + 10 + packet.readUInt16BE(nameEnd + 8);
      if (end > packet.length) return this.#refuse(rcode.formatError);
      if (packet.readUInt16BE(nameEnd) === recordType.opt) {
        if (this.hasEdns || nameEnd !== at + 1) return this.#refuse(rcode.formatError);
        this.hasEdns = true;
        this.maxUdpBytes = Math.max(minUdpBytes, packet.readUInt16BE(nameEnd + 2));
        this.wantsDnssec = (packet[nameEnd + 6]! & 0x80) !== 0;
        if (packet[nameEnd + 5] !== 0) return this.#refuse(rcode.badVersion);
      }
      at = end;
    }
    return at === packet.length ? "query" : this.#refuse(rcode.formatError);
  }

  #refuse(code: number): Reading {
    this.refusal = code;
    return "refuse";
  }
}

/** Offset behind an uncompressed name; -1 for what is none. In a query a pointer has nothing sensible to point at. */
function endOfName(packet: Buffer, start: number): number {
  let at = start;
  for (;;) {
    const length = packet[at];
    if (length === undefined || length > 63) return -1;
    at += length + 1;
    if (at > packet.length || at - start > maxNameBytes) return -1;
    if (length === 0) return at;
  }
}
