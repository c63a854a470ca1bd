/** Opens a connection to an endpoint: bound to the cluster's own address, or to the client's where a listener filter shows that. */
import * as net from "node:net";
import { openTransparent } from "../../platform/transparent-socket.ts";
import type { ClientView } from "./client-view.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import type { HostDescription } from "./host.ts";
import type { TransportSocketChoice } from "./transport-socket.ts";

export interface SocketOptions {
  readonly config: Pick<ClusterConfig, "keepAlive" | "bindAddresses">;
  /** What is shown of it goes before the cluster's own address; null: the connection is the proxy's own. */
  readonly client: ClientView | null;
  readonly allowHalfOpen?: boolean;
}

/** What of a host says how to get there. */
export interface Destination {
  readonly description: Pick<HostDescription, "address" | "port" | "otherAddresses" | "announcedTlvs">;
  readonly transportSocket: Pick<TransportSocketChoice, "announcement">;
}

/** What goes wrong is an `error` of the socket. */
export function openSocket(destination: Destination, options: SocketOptions): net.Socket {
  const { description, transportSocket } = destination;
  const socket = connect(destination, options);
  // Says first whose connection it is, where the cluster wants that. Before anybody else waits for the socket to be connected.
  transportSocket.announcement?.announce(socket, options.client, description.announcedTlvs);
  return socket;
}

/** Envoy's, from Happy Eyeballs (RFC 8305). */
const nextAddressAfterMs = 300;

function connect(
  { description: { address, port, otherAddresses } }: Destination,
  { config, client, allowHalfOpen = false }: SocketOptions,
): net.Socket {
  if (port < 0) return net.connect({ path: address, allowHalfOpen });
  const { keepAlive, bindAddresses } = config;
  const options = {
    host: address,
    port,
    noDelay: true,
    ...(keepAlive === null ? {} : { keepAlive: true, keepAliveInitialDelay: keepAlive.idleMs }),
  };
  const source = client?.originalSource ?? null;
  if (source === null) {
    const others = otherAddresses.length === 0 ? {} : oneOf([address, ...otherAddresses]);
    return net.connect({ ...options, ...others, allowHalfOpen, ...boundFor(address, bindAddresses) });
  }
  const fd = openTransparent(source.ip, source.mark);
  if (fd === null) {
    const failed = new net.Socket();
    process.nextTick(() => failed.destroy(new Error("Cannot set socket options")));
    return failed;
  }
  // Nothing is read before it is connected, `manualStart` says; the type does not know it.
  return new net.Socket({ fd, allowHalfOpen, manualStart: true } as net.SocketConstructorOpts).connect(options);
}

/** From IPv4 nobody gets to IPv6, nor back. */
function boundFor(address: string, bindAddresses: readonly string[]): { localAddress?: string } {
  const [first] = bindAddresses;
  if (first === undefined) return {};
  const isIpv6 = address.includes(":");
  return { localAddress: bindAddresses.find((own) => own.includes(":") === isIpv6) ?? first };
}

/** The first that answers. What is looked up is known already: Node tries several addresses of a name alone. */
function oneOf(addresses: readonly string[]): net.TcpSocketConnectOpts {
  const found = addresses.map((address) => ({ address, family: net.isIP(address) }));
  return {
    host: "endpoint.invalid",
    lookup: (_host, _options, done) => done(null, found),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: nextAddressAfterMs,
  } as Omit<net.TcpSocketConnectOpts, "port"> as net.TcpSocketConnectOpts;
}
