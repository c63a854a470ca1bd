/**
 * One question to one nameserver, over UDP or TCP. Each has a socket of its own, connected, with a port and an id that nobody can foresee:
 * who has not seen the question can't answer it. What comes back and does not fit is passed over, as if it had not come.
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import type { HostPort } from "../../lib/host-port.ts";
import { noLookup } from "./no-lookup.ts";
import { flag, headerBytes, maxMessageBytes, rcode } from "./protocol.ts";

export interface Exchange {
  /** Asks once more, where questions get lost. */
  resend(): void;
  close(): void;
}

export interface ExchangeEvents {
  /** Where the question comes from, before it is sent. */
  readonly onOpen: (address: string, port: number) => void;
  /** Undefined: it can't be had from this nameserver. At most once, and never after `close`. */
  readonly onResponse: (response: Buffer | undefined) => void;
}

export interface Question {
  /** With the client's id, which is replaced. */
  readonly packet: Buffer;
  /** Offset behind the question. */
  readonly questionEnd: number;
}

export function exchangeUdp(server: HostPort, question: Question, events: ExchangeEvents): Exchange {
  const query = withFreshId(question.packet);
  const socket = createSocket({ type: isIPv6(server.host) ? "udp6" : "udp4", lookup: noLookup });
  let isOpen = false;
  let isOver = false;
  const end = (response: Buffer | undefined) => {
    if (isOver) return;
    isOver = true;
    socket.close();
    events.onResponse(response);
  };
  const send = () => socket.send(query, (error) => error && end(undefined));
  socket.on("error", () => end(undefined));
  socket.on("message", (response) => {
    const verdict = judge(response, query, question.questionEnd);
    if (verdict !== "stray") end(verdict === "answer" ? response : undefined);
  });
  // Node's types leave the error out that it calls back with, of a network that can't be reached for instance.
  const onConnect = (error?: Error) => {
    if (isOver) return;
    if (error) return end(undefined);
    isOpen = true;
    const { address, port } = socket.address();
    events.onOpen(address, port);
    send();
  };
  socket.connect(server.port, server.host, onConnect);
  return {
    resend: () => {
      if (isOpen) send();
    },
    close: () => {
      if (!isOver) socket.close();
      isOver = true;
    },
  };
}

export function exchangeTcp(server: HostPort, question: Question, events: ExchangeEvents): Exchange {
  const query = withFreshId(question.packet);
  const socket = connect({ host: server.host, port: server.port, noDelay: true });
  let received: Buffer = Buffer.alloc(0);
  let isOver = false;
  const end = (response: Buffer | undefined) => {
    if (isOver) return;
    isOver = true;
    socket.destroy();
    events.onResponse(response);
  };
  socket.on("connect", () => events.onOpen(socket.localAddress ?? "", socket.localPort ?? 0));
  socket.on("error", () => end(undefined));
  socket.on("close", () => end(undefined));
  socket.on("data", (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    if (received.length < 2) return;
    const length = received.readUInt16BE(0);
    if (received.length < 2 + length) return;
    const response = received.subarray(2, 2 + length);
    end(judge(response, query, question.questionEnd) === "answer" ? response : undefined);
  });
  const framed = Buffer.allocUnsafe(2 + query.length);
  framed.writeUInt16BE(query.length, 0);
  query.copy(framed, 2);
  socket.write(framed);
  return {
    resend: () => {},
    close: () => {
      isOver = true;
      socket.destroy();
    },
  };
}

function withFreshId(packet: Buffer): Buffer {
  const copy = Buffer.from(packet);
  copy.writeUInt16BE(randomInt(0x1_0000), 0);
  return copy;
}

/**
 * `stray`: not the answer to this question. `failure`: the server's word that it does not understand the question; some leave the
 * question away in that case, which makes it too easy to forge to be believed more than that.
 */
function judge(response: Buffer, query: Buffer, questionEnd: number): "answer" | "failure" | "stray" {
  if (response.length < headerBytes || response.length > maxMessageBytes) return "stray";
  const flags = response.readUInt16BE(2);
  if (response.readUInt16BE(0) !== query.readUInt16BE(0) || (flags & flag.response) === 0) return "stray";
  if ((flags & flag.opcode) !== 0) return "stray";
  if (response.readUInt16BE(4) === 0) return (flags & 15) === rcode.ok ? "stray" : "failure";
  return response.readUInt16BE(4) === 1 && isSameQuestion(response, query, questionEnd) ? "answer" : "stray";
}

/** Names are compared without regard to case, which some servers change. */
function isSameQuestion(response: Buffer, query: Buffer, questionEnd: number): boolean {
  if (response.length < questionEnd) return false;
  // Type and class have no case: they are compared as they are.
  const typeAt = questionEnd - 4;
  if (response.readUInt32BE(typeAt) !== query.readUInt32BE(typeAt)) return false;
  return response.latin1Slice(headerBytes, typeAt).toLowerCase() === query.latin1Slice(headerBytes, typeAt).toLowerCase();
}
