import type { ListenOptions, Server } from "node:net";

/** Also for servers of HTTP. Resolves when it listens; rejects when the address can't be had. */
export function listen(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
