/** Well when it takes a connection, or when it answers what is sent with the bytes that are expected. */
import type * as net from "node:net";
import { containsBlocks, type TcpCheck } from "./health-check-config.ts";
import { type HealthProbe, type ProbeOutcome, type ProbeTarget, passed, unreachable } from "./health-probe.ts";
import { openProbeConnection } from "./probe-connection.ts";

/** An answer that does not match by then never will. */
const maxAnswerBytes = 1024 * 1024;

export class TcpProbe implements HealthProbe {
  readonly #check: TcpCheck;
  readonly #target: ProbeTarget;
  #socket: net.Socket | null = null;
  #stopConnecting: (() => void) | null = null;
  #done: ((outcome: ProbeOutcome) => void) | null = null;
  #received: Buffer[] = [];
  #receivedBytes = 0;

  constructor(check: TcpCheck, target: ProbeTarget) {
    this.#check = check;
    this.#target = target;
  }

  ask(done: (outcome: ProbeOutcome) => void): void {
    this.#done = done;
    if (this.#socket !== null) {
      this.#send(this.#socket);
      return;
    }
    this.#stopConnecting = openProbeConnection(this.#target, "http1", (error, socket) => {
      this.#stopConnecting = null;
      if (error !== null) this.#settle(unreachable);
      else this.#connected(socket!);
    });
  }

  giveUp(): void {
    this.close();
  }

  close(): void {
    this.#done = null;
    this.#stopConnecting?.();
    this.#stopConnecting = null;
    this.#drop();
  }

  #connected(socket: net.Socket): void {
    if (this.#check.receive.length === 0) {
      socket.on("error", () => {});
      socket.resetAndDestroy();
      this.#settle(passed);
      return;
    }
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("error", () => {});
    socket.once("close", () => {
      if (this.#socket === socket) this.#socket = null;
      this.#settle(unreachable);
    });
    this.#send(socket);
  }

  #send(socket: net.Socket): void {
    const { send, proxyProtocol } = this.#check;
    const bytes = Buffer.concat([proxyProtocol === null ? nothing : proxyHeader(proxyProtocol, socket), send]);
    if (bytes.length > 0) socket.write(bytes);
  }

  #onData(chunk: Buffer): void {
    this.#received.push(chunk);
    this.#receivedBytes += chunk.length;
    if (this.#receivedBytes > maxAnswerBytes) {
      this.#drop();
      this.#settle(unreachable);
      return;
    }
    if (this.#done === null || !containsBlocks(Buffer.concat(this.#received), this.#check.receive)) return;
    this.#received = [];
    this.#receivedBytes = 0;
    if (!this.#target.reusesConnection) this.#drop();
    this.#settle(passed);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#received = [];
    this.#receivedBytes = 0;
    socket?.removeAllListeners("close");
    socket?.destroy();
  }

  #settle(outcome: ProbeOutcome): void {
    const done = this.#done;
    this.#done = null;
    done?.(outcome);
  }
}

const nothing = Buffer.alloc(0);

/** PROXY protocol: version 1 with the connection's own addresses, version 2 as LOCAL. */
function proxyHeader(version: 1 | 2, socket: net.Socket): Buffer {
  if (version === 2) return Buffer.from("0d0a0d0a000d0a515549540a20000000", "hex");
  const family = socket.remoteFamily === "IPv6" ? "TCP6" : "TCP4";
  return Buffer.from(`PROXY ${family} ${socket.localAddress} ${socket.remoteAddress} ${socket.localPort} ${socket.remotePort}\r\n`);
}
