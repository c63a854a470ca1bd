/** Start and end of a plain HTTP server as something that is awaited and disposed of. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { listen } from "./listen.ts";

/** Rejects when the address can't be had. Port 0 is any; the port that it became is the result. */
export async function listenHttp(server: Server, host: string, port: number): Promise<number> {
  await listen(server, { host, port });
  return (server.address() as AddressInfo).port;
}

/** Cuts what is open. */
export async function closeHttp(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
