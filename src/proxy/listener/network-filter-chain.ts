/** Read filters before a terminal one. */
import { keepChunk, type Transport, type TransportHandler } from "../transport.ts";
import type { DownstreamConnection } from "./downstream-connection.ts";
import type { ConnectionReader, NetworkReadFilter, TerminalNetworkFilter } from "./network-filter.ts";

export class NetworkFilterChain implements TerminalNetworkFilter {
  readonly name: string;
  readonly isTerminal = true;
  readonly #filters: readonly NetworkReadFilter[];
  readonly #terminal: TerminalNetworkFilter;

  constructor(filters: readonly NetworkReadFilter[], terminal: TerminalNetworkFilter) {
    this.name = terminal.name;
    this.#filters = filters;
    this.#terminal = terminal;
  }

  onConnection(connection: DownstreamConnection): void {
    this.#offer(connection, 0);
  }

  #offer(connection: DownstreamConnection, from: number): void {
    for (let i = from; i < this.#filters.length; i++) {
      const reader = this.#filters[i]!.onConnection(connection);
      if (connection.isClosed) return;
      if (reader === "wait") {
        connection.wait(() => this.#offer(connection, i + 1));
        return;
      }
      if (reader === null) continue;
      connection.readers ??= [];
      connection.readers.push(reader);
    }
    this.#terminal.onConnection(connection);
  }

  start(): Promise<void> | undefined {
    return this.#terminal.start?.();
  }

  dispose(): void {
    for (const filter of this.#filters) filter.dispose();
    this.#terminal.dispose();
  }
}

/**
 * Stands between a connection's transport and the terminal filter's handler for as long as a reader wants to see what arrives;
 * then it takes itself out, and bytes go from the one to the other as if it had never been.
 */
export class ReaderGate implements TransportHandler {
  readonly #readers: ConnectionReader[];
  readonly #handler: TransportHandler;
  transport: Transport | null = null;
  /** What a reader holds, which is the first of those that are left to ask. */
  #held: Held | null = null;

  constructor(readers: ConnectionReader[], handler: TransportHandler) {
    this.#readers = readers;
    this.#handler = handler;
  }

  onData(chunk: Buffer): void {
    if (this.#held !== null) {
      this.#held.chunks.push(keepChunk(chunk));
      return;
    }
    const passed = this.#pass(chunk, false, 0);
    if (passed !== null && passed.length > 0) this.#handler.onData(passed);
  }

  onEnd(): void {
    if (this.#held !== null) this.#held.endStream = true;
    else this.#passEnd(nothing, 0);
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    for (const reader of this.#readers) reader.onClose?.();
    this.#handler.onClose(error);
  }

  onDrain(): void {
    this.#handler.onDrain();
  }

  /** What is held goes on past the reader that held it. */
  continueReading(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const { readerAt, chunks, endStream } = held;
    this.#readers.splice(readerAt, 1);
    const chunk = Buffer.concat(chunks);
    if (chunk.length > 0) {
      const passed = this.#pass(chunk, false, readerAt);
      if (passed === null) return;
      if (passed.length > 0) this.#handler.onData(passed);
    }
    if (endStream) this.#passEnd(nothing, readerAt);
    else this.transport?.start();
  }

  #passEnd(chunk: Buffer, from: number): void {
    const passed = this.#pass(chunk, true, from);
    if (passed === null) return;
    // What a reader had kept until now.
    if (passed.length > 0) this.#handler.onData(passed);
    this.#handler.onEnd();
  }

  /** What the terminal filter gets to see; null: nothing, for now or for good. */
  #pass(chunk: Buffer, endStream: boolean, from: number): Buffer | null {
    const readers = this.#readers;
    let passed = chunk;
    for (let i = from; i < readers.length; ) {
      const status = readers[i]!.onData(passed, endStream);
      if (status === "continue") {
        i++;
        continue;
      }
      if (status === "stop" || status === "wait") return null;
      if (status === "hold") {
        this.#held = { readerAt: i, chunks: [keepChunk(passed)], endStream };
        this.transport?.pause();
        return null;
      }
      if (status !== "done") {
        passed = status;
        // The others are asked when something comes that is theirs.
        if (passed.length === 0 && !endStream) {
          readers.splice(i, 1);
          this.#leaveIfDone();
          return null;
        }
      }
      readers.splice(i, 1);
    }
    this.#leaveIfDone();
    return passed;
  }

  #leaveIfDone(): void {
    if (this.#readers.length === 0 && this.transport !== null) this.transport.handler = this.#handler;
  }
}

interface Held {
  readonly readerAt: number;
  readonly chunks: Buffer[];
  endStream: boolean;
}

const nothing = Buffer.alloc(0);
