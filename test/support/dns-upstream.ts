/** A nameserver that answers what a test tells it to, over UDP and TCP on one port of loopback; it counts what it is asked. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { encodeName, framed } from "./dns-client.ts";

export interface Asked {
  readonly name: string;
  readonly type: number;
  readonly transport: "udp" | "tcp";
  readonly id: number;
  readonly port: number;
  readonly packet: Buffer;
}

/** Packets to be sent back, in that order; none: silence. */
export type OnQuery = (asked: Asked) => readonly Buffer[];

export class DnsUpstream implements AsyncDisposable {
  readonly asked: Asked[] = [];
  readonly host: string;
  readonly #udp: Socket;
  readonly #tcp: Server;

  private constructor(host: string, udp: Socket, tcp: Server, onQuery: OnQuery) {
    this.host = host;
    this.#udp = udp;
    this.#tcp = tcp;
    udp.on("message", (packet, peer: RemoteInfo) => {
      for (const response of this.#answers(packet, "udp", peer.port, onQuery)) udp.send(response, peer.port, peer.address);
    });
    tcp.on("connection", (socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        for (const response of this.#answers(chunk.subarray(2), "tcp", socket.remotePort ?? 0, onQuery)) socket.write(framed(response));
      });
    });
  }

  static async start(onQuery: OnQuery, host = "127.0.0.1", port = 0): Promise<DnsUpstream> {
    const tcp = createServer();
    await new Promise<void>((resolve) => tcp.listen(port, host, resolve));
    const udp = createSocket(host.includes(":") ? "udp6" : "udp4");
    await new Promise<void>((resolve) => udp.bind((tcp.address() as { port: number }).port, host, resolve));
    return new DnsUpstream(host, udp, tcp, onQuery);
  }

  get port(): number {
    return this.#udp.address().port;
  }

  /** As a line of resolv.conf. */
  get line(): string {
    return `nameserver ${this.host.includes(":") ? `[${this.host}]` : this.host}:${this.port}\n`;
  }

  /** To a question that was met by silence, over UDP. */
  answer({ port }: Asked, response: Buffer): void {
    this.#udp.send(response, port, this.host);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close();
    await new Promise((resolve) => this.#tcp.close(resolve));
  }

  #answers(packet: Buffer, transport: Asked["transport"], port: number, onQuery: OnQuery): readonly Buffer[] {
    let at = 12;
    while (packet[at] !== 0) at += packet[at]! + 1;
    let name = "";
    for (let label = 12; label < at; label += packet[label]! + 1) name += `${packet.latin1Slice(label + 1, label + 1 + packet[label]!)}.`;
    const asked = { name, type: packet.readUInt16BE(at + 1), transport, id: packet.readUInt16BE(0), port, packet };
    this.asked.push(asked);
    return onQuery(asked);
  }
}

/** `code`: of the header; `flags`: more bits of it. Addresses are IPv4. */
export function reply({ packet }: Asked, { code = 0, flags = 0, addresses = [], records = [] }: Reply = {}): Buffer {
  let end = 12;
  while (packet[end] !== 0) end += packet[end]! + 1;
  const head = Buffer.from(packet.subarray(0, end + 5));
  head.writeUInt16BE(0x8180 | flags | code, 2);
  head.writeUInt16BE(addresses.length + records.length, 6);
  head.writeUInt32BE(0, 8);
  const answers = addresses.map((address) =>
    Buffer.concat([Buffer.from("c00c00010001000000050004", "hex"), Buffer.from(address.split(".").map(Number))]),
  );
  return Buffer.concat([head, ...answers, ...records]);
}

export interface Reply {
  readonly code?: number;
  readonly flags?: number;
  readonly addresses?: readonly string[];
  /** Whole records as they are. */
  readonly records?: readonly Buffer[];
}

/** `target` as it is on the wire: it may hold a pointer. */
export function cnameRecord(owner: Buffer, target: Buffer): Buffer {
  const fixed = Buffer.from("00050001000000050000", "hex");
  fixed.writeUInt16BE(target.length, 8);
  return Buffer.concat([owner, fixed, target]);
}

export function addressRecord(owner: string, address: string): Buffer {
  return Buffer.concat([encodeName(owner), Buffer.from("00010001000000050004", "hex"), Buffer.from(address.split(".").map(Number))]);
}
