/** Start and end of a plain HTTP server as something that is awaited and disposed of. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

/** Rejects when the address can't be had. Port 0 is any; the port that it became is the result. */
export function listenHttp(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Cuts what is open. */
export async function closeHttp(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
