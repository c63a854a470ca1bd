/**
 * Ports of a process that hands over to another of its kind: both listen for a while, and the kernel gives a new connection to either.
 *
 *   alone    nobody else may have the port
 *   first    others may have it later; now nobody may
 *   beside   one has it, and gives it up soon
 */
import { createServer, type ListenOptions, type Server } from "node:net";
import { listen } from "../lib/listen.ts";

export type PortSharing = "alone" | "first" | "beside";

/** Also for servers of HTTP. Rejects when the address can't be had. */
export async function listenOn(server: Server, options: ListenOptions, sharing: PortSharing): Promise<void> {
  // The kernel lets any process of this user share: two that should not would share without a word.
  if (sharing === "first" && options.port) await takeAndGive(options);
  await listen(server, { ...options, exclusive: true, reusePort: sharing !== "alone" });
}

async function takeAndGive(options: ListenOptions): Promise<void> {
  const probe = createServer();
  await listen(probe, { ...options, exclusive: true });
  await new Promise((resolve) => probe.close(resolve));
}
