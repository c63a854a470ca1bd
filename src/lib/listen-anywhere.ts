/**
 * A server that is told no address: it listens to IPv4, and where there is IPv6 to the same port of that as well. By a socket for each, so
 * that clients' addresses are what they are; one of IPv6 for both would show those of IPv4 as ::ffff:10.0.0.1.
 */
import { type AddressInfo, createServer, type Server } from "node:net";
import { listen } from "./listen.ts";

export interface ListenAnywhereOptions {
  /** 0 for any; then IPv6 is left away when it has been taken there. */
  readonly port: number;
  readonly backlog?: number;
}

/** Also for servers of HTTP. `server` is closed by itself, the other socket by what is returned. Rejects when the port can't be had. */
export async function listenAnywhere(server: Server, { port, ...options }: ListenAnywhereOptions): Promise<Disposable> {
  await listen(server, { ...options, host: "0.0.0.0", port, exclusive: true });
  // How a server takes connections is known to all of Node's kinds of servers, though not to their types.
  const { noDelay, allowHalfOpen } = server as Server & { noDelay: boolean; allowHalfOpen: boolean };
  const other = createServer({ noDelay, allowHalfOpen }, (socket) => void server.emit("connection", socket));
  other.maxConnections = server.maxConnections;
  try {
    await listen(other, { ...options, host: "::", ipv6Only: true, port: (server.address() as AddressInfo).port, exclusive: true });
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EADDRNOTAVAIL", "EAFNOSUPPORT", ...(port === 0 ? ["EADDRINUSE"] : [])].includes(code)) {
      server.close();
      throw error;
    }
  }
  // Of one connection that could not be taken.
  other.on("error", (error) => void server.emit("error", error));
  return { [Symbol.dispose]: () => void other.close() };
}
