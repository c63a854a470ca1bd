/** Http2ProtocolOptions of either side, checked and with Envoy's defaults. */
import { ConfigError } from "../../api/config-error.ts";
import type { Http2ProtocolOptions } from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import { defaultWindow, largestWindow } from "./frames.ts";
import { compileKeepalive, type KeepaliveOptions } from "./keepalive.ts";

export interface Http2Options {
  /** Of a client's connection; towards a server, at most as many, and as it says. */
  readonly maxConcurrentStreams: number;
  /** Bytes that the peer may send ahead, of a stream and of all of a connection. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** A malformed message costs its stream, not its connection. */
  readonly bearsInvalidMessages: boolean;
  /** Requests may ask for another protocol than HTTP on their stream (RFC 8441). */
  readonly allowsConnect: boolean;
  /** null: peers are not asked whether they are still there. */
  readonly keepalive: KeepaliveOptions | null;
}

/** `bearsInvalidMessages`: where the options don't say. */
export function compileHttp2Options(
  options: Http2ProtocolOptions | undefined,
  {
    maxConcurrentStreams: byDefault,
    bearsInvalidMessages,
  }: { readonly maxConcurrentStreams: number; readonly bearsInvalidMessages: boolean },
): Http2Options {
  const window = (name: string, value: number | undefined, otherwise: number) => {
    if (value === undefined) return otherwise;
    if (value < defaultWindow || value > largestWindow)
      throw new ConfigError(`Http2ProtocolOptions: ${name}: value must be inside range [${defaultWindow}, ${largestWindow}]`);
    return value;
  };
  const maxConcurrentStreams = options?.maxConcurrentStreams ?? byDefault;
  if (maxConcurrentStreams < 1 || maxConcurrentStreams > largestWindow)
    throw new ConfigError(`Http2ProtocolOptions: max_concurrent_streams: value must be inside range [1, ${largestWindow}]`);
  return {
    maxConcurrentStreams,
    streamWindow: window("initial_stream_window_size", options?.initialStreamWindowSize, 16 * 1024 * 1024),
    connectionWindow: window("initial_connection_window_size", options?.initialConnectionWindowSize, 24 * 1024 * 1024),
    bearsInvalidMessages: options?.overrideStreamErrorOnInvalidHttpMessage ?? bearsInvalidMessages,
    allowsConnect: options?.allowConnect ?? false,
    keepalive: compileKeepalive(options?.connectionKeepalive),
  };
}
