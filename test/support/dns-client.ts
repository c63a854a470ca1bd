/** DNS as a client of its own sees it: packets by hand, and what is in them as text. Decodes all that the tests' servers and ours send. */
import { createSocket } from "node:dgram";
import { connect } from "node:net";

const types: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  OPT: 41,
  HTTPS: 65,
  AXFR: 252,
};
const codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

export interface QueryInit {
  readonly type?: keyof typeof types & string;
  readonly id?: number;
  /** UDP size of an OPT record; absent: none. */
  readonly edns?: number;
  readonly class?: number;
}

export function encodeQuery(name: string, { type = "A", id = 0x1234, edns, class: queryClass = 1 }: QueryInit = {}): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(edns === undefined ? 0 : 1, 10);
  const rest = Buffer.alloc(4);
  rest.writeUInt16BE(types[type]!, 0);
  rest.writeUInt16BE(queryClass, 2);
  const opt = Buffer.from("0000290000000000000000", "hex");
  opt.writeUInt16BE(edns ?? 0, 3);
  return Buffer.concat([head, encodeName(name), rest, ...(edns === undefined ? [] : [opt])]);
}

/** `a.b.` or `a.b`. */
export function encodeName(name: string): Buffer {
  const labels = name.split(".").filter((label) => label !== "");
  return Buffer.concat([...labels.map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`, "latin1")), Buffer.of(0)]);
}

export interface Decoded {
  readonly id: number;
  readonly code: string;
  /** `aa tc rd ra` as set. */
  readonly flags: string;
  readonly question: string;
  /** `web. 30 A 10.0.0.1` each, in their order. */
  readonly answers: string[];
  readonly authority: string[];
  /** UDP size that the sender announces; undefined without EDNS. */
  readonly edns: number | undefined;
}

export function decodeResponse(message: Buffer): Decoded {
  const flags = message.readUInt16BE(2);
  let at = 12;
  let question = "";
  for (let left = message.readUInt16BE(4); left > 0; left--) {
    const name = readName(message, at);
    question = `${name.text} ${typeName(message.readUInt16BE(name.end))}`;
    at = name.end + 4;
  }
  let edns: number | undefined;
  let extendedCode = 0;
  const section = (count: number): string[] => {
    const records: string[] = [];
    for (let left = count; left > 0; left--) {
      const owner = readName(message, at);
      const type = message.readUInt16BE(owner.end);
      const length = message.readUInt16BE(owner.end + 8);
      const dataAt = owner.end + 10;
      at = dataAt + length;
      if (at > message.length) throw new Error("a record ends behind its message");
      if (type === types.OPT) {
        edns = message.readUInt16BE(owner.end + 2);
        extendedCode = message[owner.end + 4]!;
      } else
        records.push(`${owner.text} ${message.readUInt32BE(owner.end + 4)} ${typeName(type)} ${dataText(message, type, dataAt, length)}`);
    }
    return records;
  };
  const answers = section(message.readUInt16BE(6));
  const authority = section(message.readUInt16BE(8));
  section(message.readUInt16BE(10));
  if (at !== message.length) throw new Error(`${message.length - at} bytes are left behind the last record`);
  const code = (extendedCode << 4) | (flags & 15);
  const names = (
    [
      ["qr", 0x8000],
      ["aa", 0x400],
      ["tc", 0x200],
      ["rd", 0x100],
      ["ra", 0x80],
    ] as const
  ).filter(([, bit]) => flags & bit);
  return {
    id: message.readUInt16BE(0),
    code: codes[code] ?? (code === 16 ? "BADVERS" : String(code)),
    flags: names.map(([name]) => name).join(" "),
    question,
    answers,
    authority,
    edns,
  };
}

function typeName(type: number): string {
  return Object.entries(types).find(([, number]) => number === type)?.[0] ?? String(type);
}

function dataText(message: Buffer, type: number, at: number, length: number): string {
  const data = message.subarray(at, at + length);
  if (type === types.A) return [...data].join(".");
  if (type === types.AAAA) return (data.toString("hex").match(/.{4}/g) ?? []).map((group) => group.replace(/^0{1,3}/, "")).join(":");
  if (type === types.CNAME || type === types.NS || type === types.PTR) return readName(message, at).text;
  return data.toString("hex");
}

function readName(message: Buffer, start: number): { text: string; end: number } {
  let text = "";
  let end: number | undefined;
  for (let at = start, hops = 0; ; ) {
    const length = message.readUInt8(at);
    if (length >= 0xc0) {
      end ??= at + 2;
      at = message.readUInt16BE(at) & 0x3fff;
      if (++hops > 20) throw new Error("names go round");
      continue;
    }
    if (length === 0) return { text: text || ".", end: end ?? at + 1 };
    text += `${message.latin1Slice(at + 1, at + 1 + length)}.`;
    at += 1 + length;
  }
}

export interface DnsServerAddress {
  readonly port: number;
  readonly host?: string;
}

const timeoutMs = 10_000;

/** One packet there, one back. Rejects when none comes within `waitMs`. */
export async function askUdp({ port, host = "127.0.0.1" }: DnsServerAddress, packet: Buffer, waitMs = timeoutMs): Promise<Buffer> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  try {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no answer")), waitMs);
      socket.once("message", (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      socket.once("error", reject);
      socket.send(packet, port, host);
    });
  } finally {
    socket.close();
  }
}

/** All of the packets over one connection, as many answers as come until all are there. */
export async function askTcp({ port, host = "127.0.0.1" }: DnsServerAddress, packets: readonly Buffer[]): Promise<Buffer[]> {
  const socket = connect(port, host);
  const responses: Buffer[] = [];
  let received = Buffer.alloc(0);
  try {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no answer")), timeoutMs);
      const end = () => {
        clearTimeout(timer);
        resolve(responses);
      };
      socket.on("data", (chunk: Buffer) => {
        received = Buffer.concat([received, chunk]);
        while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
          const length = received.readUInt16BE(0);
          responses.push(received.subarray(2, 2 + length));
          received = received.subarray(2 + length);
        }
        if (responses.length === packets.length) end();
      });
      socket.once("close", end);
      socket.once("error", reject);
      for (const packet of packets) socket.write(framed(packet));
    });
  } finally {
    socket.destroy();
  }
}

export function framed(packet: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(packet.length, 0);
  return Buffer.concat([length, packet]);
}

/** What a name resolves to over UDP. */
export async function resolve(server: DnsServerAddress, name: string, init: QueryInit = {}): Promise<Decoded> {
  return decodeResponse(await askUdp(server, encodeQuery(name, init)));
}
