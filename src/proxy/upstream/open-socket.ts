/** Opens a connection to an endpoint: bound to the cluster's own address, or to the client's where a listener filter shows that. */
import * as net from "node:net";
import { openTransparent } from "../../platform/transparent-socket.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import type { HostDescription } from "./host.ts";

/** The address that endpoints see instead of the proxy's, and the mark of its packets (envoy.filters.listener.original_src). */
export interface OriginalSource {
  readonly ip: string;
  readonly mark: number;
}

export interface SocketOptions {
  readonly config: Pick<ClusterConfig, "keepAlive" | "bindAddress">;
  /** Goes before the cluster's own address. */
  readonly source: OriginalSource | null;
  readonly allowHalfOpen?: boolean;
}

/** `address`: an IP address, or a path with port -1. What goes wrong is an `error` of the socket. */
export function openSocket(
  { address, port }: Pick<HostDescription, "address" | "port">,
  { config, source, allowHalfOpen = false }: SocketOptions,
): net.Socket {
  if (port < 0) return net.connect({ path: address, allowHalfOpen });
  const { keepAlive, bindAddress } = config;
  const options = {
    host: address,
    port,
    noDelay: true,
    ...(keepAlive === null ? {} : { keepAlive: true, keepAliveInitialDelay: keepAlive.idleMs }),
  };
  if (source === null) return net.connect({ ...options, allowHalfOpen, ...(bindAddress === "" ? {} : { localAddress: bindAddress }) });
  const fd = openTransparent(source.ip, source.mark);
  if (fd === null) {
    const failed = new net.Socket();
    process.nextTick(() => failed.destroy(new Error("Cannot set socket options")));
    return failed;
  }
  // Nothing is read before it is connected, `manualStart` says; the type does not know it.
  return new net.Socket({ fd, allowHalfOpen, manualStart: true } as net.SocketConstructorOpts).connect(options);
}
