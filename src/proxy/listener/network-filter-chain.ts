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
    if (this.#held !== null) this.#held.chunks.push(keepChunk(chunk));
    else if (this.#passes(chunk, false, 0)) this.#handler.onData(chunk);
  }

  onEnd(): void {
    if (this.#held !== null) this.#held.endStream = true;
    else if (this.#passes(nothing, true, 0)) this.#handler.onEnd();
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
      if (!this.#passes(chunk, false, readerAt)) return;
      this.#handler.onData(chunk);
    }
    if (endStream) {
      if (this.#passes(nothing, true, readerAt)) this.#handler.onEnd();
    } else this.transport?.start();
  }

  #passes(chunk: Buffer, endStream: boolean, from: number): boolean {
    const readers = this.#readers;
    for (let i = from; i < readers.length; ) {
      const status = readers[i]!.onData(chunk, endStream);
      if (status === "stop") return false;
      if (status === "hold") {
        this.#held = { readerAt: i, chunks: [keepChunk(chunk)], endStream };
        this.transport?.pause();
        return false;
      }
      if (status === "done") readers.splice(i, 1);
      else i++;
    }
    if (readers.length === 0 && this.transport !== null) this.transport.handler = this.#handler;
    return true;
  }
}

interface Held {
  readonly readerAt: number;
  readonly chunks: Buffer[];
  endStream: boolean;
}

const nothing = Buffer.alloc(0);
