/**
 * Ports of a process that hands over to another of its kind: both listen for a while, and the kernel gives a new connection to either.
 *
 *   alone    nobody else may have the port
 *   first    others may have it later; now nobody may
 *   beside   one has it, and gives it up soon
 */
import { createServer, type ListenOptions, type Server } from "node:net";

export type PortSharing = "alone" | "first" | "beside";

/** Also for servers of HTTP. Rejects when the address can't be had. */
export async function listenOn(server: Server, options: ListenOptions, sharing: PortSharing): Promise<void> {
  // The kernel lets any process of this user share: two that should not would share without a word.
  if (sharing === "first" && options.port) await takeAndGive(options);
  await listening(server, { ...options, exclusive: true, reusePort: sharing !== "alone" });
}

async function takeAndGive(options: ListenOptions): Promise<void> {
  const probe = createServer();
  await listening(probe, { ...options, exclusive: true });
  await new Promise((resolve) => probe.close(resolve));
}

function listening(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
