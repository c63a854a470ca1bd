/** Http2ProtocolOptions of a connection manager, checked and with Envoy's defaults. */
import { ConfigError } from "../../api/config-error.ts";
import type { HttpConnectionManager } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { defaultWindow, largestWindow } from "./frames.ts";

export interface Http2ServerOptions {
  readonly maxConcurrentStreams: number;
  /** Bytes that a client may send ahead, of a stream and of all of a connection. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** A malformed request costs its stream, not its connection. */
  readonly bearsInvalidMessages: boolean;
}

export function compileHttp2Options(config: HttpConnectionManager): Http2ServerOptions {
  const options = config.http2ProtocolOptions;
  const window = (name: string, value: number | undefined, byDefault: number) => {
    if (value === undefined) return byDefault;
    if (value < defaultWindow || value > largestWindow)
      throw new ConfigError(`Http2ProtocolOptions: ${name}: value must be inside range [${defaultWindow}, ${largestWindow}]`);
    return value;
  };
  const maxConcurrentStreams = options?.maxConcurrentStreams ?? 1024;
  if (maxConcurrentStreams < 1 || maxConcurrentStreams > largestWindow)
    throw new ConfigError(`Http2ProtocolOptions: max_concurrent_streams: value must be inside range [1, ${largestWindow}]`);
  return {
    maxConcurrentStreams,
    streamWindow: window("initial_stream_window_size", options?.initialStreamWindowSize, 16 * 1024 * 1024),
    connectionWindow: window("initial_connection_window_size", options?.initialConnectionWindowSize, 24 * 1024 * 1024),
    bearsInvalidMessages: options?.overrideStreamErrorOnInvalidHttpMessage ?? config.streamErrorOnInvalidHttpMessage ?? false,
  };
}
