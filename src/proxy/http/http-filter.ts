/**
 * What an HTTP filter is.
 *
 * One filter object exists per configuration and is shared by all requests; what a request needs to remember lies in
 * `stream.filterState[slot]`. Requests run the filters in list order, responses in reverse, local replies included. A hook
 * that answers `stop` holds the message at this filter (what follows is kept, with back-pressure) until the filter calls
 * `stream.continueRequest()` or `continueResponse()`, or answers by `stream.sendLocalReply`.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { CompileContext } from "../compile-context.ts";
import type { HeaderList } from "../stream-info.ts";
import type { HttpStream } from "./http-stream.ts";

export type FilterStatus = "continue" | "stop";

export interface HttpFilter {
  /** Name in the chain, by which per-route configuration is looked up. */
  readonly name: string;
  onRequestHeaders?(stream: HttpStream, endStream: boolean): FilterStatus;
  /** Not called for an empty end: that may come with the headers, with data, or by `onRequestEnd`. What it returns goes on instead of the chunk. */
  onRequestData?(stream: HttpStream, chunk: Buffer, endStream: boolean): FilterStatus | Buffer;
  /** The request ended behind its data. A filter may answer it still. */
  onRequestEnd?(stream: HttpStream): void;
  /** More of the body has come, or its end, while the request rests at this filter's `onRequestHeaders`; see `stream.heldRequest`. */
  onHeldRequestData?(stream: HttpStream, endStream: boolean): void;
  onResponseHeaders?(stream: HttpStream, endStream: boolean): FilterStatus;
  onResponseData?(stream: HttpStream, chunk: Buffer, endStream: boolean): FilterStatus | Buffer;
  /** More of the body has come, or its end, while the response rests at this filter's `onResponseHeaders`; see `stream.takeHeldResponse`. */
  onHeldResponseData?(stream: HttpStream, endStream: boolean): void;
  /** The response ended behind its data, with trailers or without. What it returns ends the body instead of them. */
  onResponseEnd?(stream: HttpStream, trailers: HeaderList): Buffer | null;
  /** The stream is over, however it ended. */
  onStreamEnd?(stream: HttpStream): void;
  /** Its listener is about to listen, in this worker. The promise, where there is one, is what traffic should wait for; never rejects. */
  start?(): Promise<void> | undefined;
  /** Its listener is gone, and so are its streams. */
  dispose?(): void;
}

/** Of the whole response, of an attempt, between an attempt's signs of life, or of an attempt with its response (the cluster's limit). */
export type TimeoutKind = "route" | "try" | "tryIdle" | "tryDuration";

/** The last filter of a chain: it has the request answered. */
export interface TerminalFilter {
  readonly name: string;
  readonly isTerminal: true;
  onRequestHeaders(stream: HttpStream, endStream: boolean): void;
  onRequestData(stream: HttpStream, chunk: Buffer, endStream: boolean): void;
  onRequestTrailers(stream: HttpStream, trailers: string[]): void;
  /** One read of the downstream connection has been handed over. */
  onRequestReadComplete(stream: HttpStream): void;
  /** Downstream takes response data again. */
  onDownstreamDrain(stream: HttpStream): void;
  /** A deadline of `stream` passed. */
  onTimeout(stream: HttpStream, which: TimeoutKind): void;
  /** The client is gone or the stream was answered otherwise: stop all work for it. */
  onStreamEnd(stream: HttpStream): void;
}

export interface FilterCompileContext extends CompileContext {
  /** `http.PREFIX.` */
  readonly statPrefix: string;
  readonly trafficDirection: "inbound" | "outbound" | "unspecified";
  /** Position in `stream.filterState` that belongs to this filter. */
  readonly slot: number;
}

export interface HttpFilterDefinition {
  readonly name: string;
  readonly schema: DescMessage;
  readonly create: (config: never, context: FilterCompileContext, name: string) => HttpFilter | TerminalFilter;
  /** Message of `typed_per_filter_config`, and what it compiles to. */
  readonly perRoute?: { readonly schema: DescMessage; readonly compile: (config: never, context: CompileContext) => unknown };
}

/** Ties the types of one filter's parts together. */
export function defineHttpFilter<S extends DescMessage, R extends DescMessage = S>(definition: {
  readonly name: string;
  readonly schema: S;
  readonly create: (config: MessageShape<S>, context: FilterCompileContext, name: string) => HttpFilter | TerminalFilter;
  readonly perRoute?: { readonly schema: R; readonly compile: (config: MessageShape<R>, context: CompileContext) => unknown };
}): HttpFilterDefinition {
  return definition as unknown as HttpFilterDefinition;
}
