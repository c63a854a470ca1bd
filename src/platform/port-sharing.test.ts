import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { listenOn, type PortSharing } from "./port-sharing.ts";

const open: Server[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

async function listen(port: number, sharing: PortSharing): Promise<number> {
  const server = createServer((_, response) => response.end());
  await listenOn(server, { host: "127.0.0.1", port }, sharing);
  open.push(server);
  return (server.address() as AddressInfo).port;
}

it("lets a second process in beside the first", async () => {
  const port = await listen(0, "first");
  await expect(listen(port, "beside")).resolves.toBe(port);
});

it("lets in nobody who does not know of the first", async () => {
  const port = await listen(0, "first");
  await expect(listen(port, "first")).rejects.toMatchObject({ code: "EADDRINUSE" });
  await expect(listen(port, "alone")).rejects.toMatchObject({ code: "EADDRINUSE" });
});

it("lets in nobody beside one that is alone", async () => {
  const port = await listen(0, "alone");
  await expect(listen(port, "beside")).rejects.toMatchObject({ code: "EADDRINUSE" });
});
