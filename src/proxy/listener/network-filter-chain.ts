/** Read filters before a terminal one. */
import type { Transport, TransportHandler } from "../transport.ts";
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
    for (const filter of this.#filters) {
      const reader = filter.onConnection(connection);
      if (connection.isClosed) return;
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

  constructor(readers: ConnectionReader[], handler: TransportHandler) {
    this.#readers = readers;
    this.#handler = handler;
  }

  onData(chunk: Buffer): void {
    if (this.#passes(chunk, false)) this.#handler.onData(chunk);
  }

  onEnd(): void {
    if (this.#passes(nothing, true)) this.#handler.onEnd();
  }

  onClose(error: NodeJS.ErrnoException | null): void {
    this.#handler.onClose(error);
  }

  onDrain(): void {
    this.#handler.onDrain();
  }

  #passes(chunk: Buffer, endStream: boolean): boolean {
    const readers = this.#readers;
    for (let i = 0; i < readers.length; ) {
      const status = readers[i]!.onData(chunk, endStream);
      if (status === "stop") return false;
      if (status === "done") readers.splice(i, 1);
      else i++;
    }
    if (readers.length === 0 && this.transport !== null) this.transport.handler = this.#handler;
    return true;
  }
}

const nothing = Buffer.alloc(0);
