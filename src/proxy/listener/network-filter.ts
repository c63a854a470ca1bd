/**
 * What network filters are. They get a connection once listener filters, chain match and TLS handshake are done.
 *
 * The last filter of a chain is terminal: it owns the connection and its transport. Those before it see the connection first,
 * in order, and then what arrives on it before the terminal filter does; see network-filter-chain.ts. A chain that consists of
 * a terminal filter alone is that filter: it pays for nothing.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { CompileContext } from "../compile-context.ts";
import type { DownstreamConnection } from "./downstream-connection.ts";

export interface TerminalNetworkFilter {
  readonly name: string;
  readonly isTerminal: true;
  /** Takes the connection, and opens its transport with `connection.openTransport`. */
  onConnection(connection: DownstreamConnection): void;
  /** See HttpFilter.start. */
  start?(): Promise<void> | undefined;
  dispose(): void;
}

/** Sees connections on their way to the terminal filter. */
export interface NetworkReadFilter {
  readonly name: string;
  /**
   * Nothing was read yet. What it returns sees what arrives; null: nothing has to. A connection that it closes goes no further. `wait`: it
   * goes on when the filter calls `connection.proceed()`, never from within here; until then the filters behind don't know of it.
   */
  onConnection(connection: DownstreamConnection): ConnectionReader | null | "wait";
  dispose(): void;
}

/** A read filter's part in one connection. */
export interface ConnectionReader {
  /** `chunk` is valid only during the call, and empty when only the end (FIN) has come. */
  onData(chunk: Buffer, endStream: boolean): ReadStatus;
  /** The client is gone. */
  onClose?(): void;
}

/**
 * `done`: go on, and don't ask me again. `stop`: this goes no further; the filter closes the connection, now or later. `hold`: it goes
 * on when the filter calls `connection.continueReading()`, past this reader, which is not asked again; nothing more is read until then.
 * `wait`: the filter keeps this, and wants to see more. Bytes: those go on instead, past this reader, which is not asked again.
 */
export type ReadStatus = "continue" | "done" | "stop" | "hold" | "wait" | Buffer;

export interface NetworkFilterContext extends CompileContext {
  /** `listener.127.0.0.1_8080.` */
  readonly listenerStatPrefix: string;
  readonly trafficDirection: "inbound" | "outbound" | "unspecified";
  readonly bufferLimitBytes: number;
}

export interface NetworkFilterDefinition {
  readonly name: string;
  readonly schema: DescMessage;
  readonly create: (config: never, context: NetworkFilterContext, name: string) => TerminalNetworkFilter | NetworkReadFilter;
}

export function defineNetworkFilter<S extends DescMessage>(definition: {
  readonly name: string;
  readonly schema: S;
  readonly create: (config: MessageShape<S>, context: NetworkFilterContext, name: string) => TerminalNetworkFilter | NetworkReadFilter;
}): NetworkFilterDefinition {
  return definition as unknown as NetworkFilterDefinition;
}
