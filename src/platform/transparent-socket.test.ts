import { once } from "node:events";
import { type AddressInfo, createServer, Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { makeTransparent, openTransparent } from "./transparent-socket.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) process.stderr.write("skipped: transparent sockets: needs root\n");

describe.skipIf(!isRoot)("transparent sockets", () => {
  it.each([
    ["127.0.0.1", "127.0.0.44"],
    ["::1", "::1"],
  ])("connect to %s from the address that they are told, %s", async (to, from) => {
    const server = createServer().listen(0, to);
    await once(server, "listening");
    const fd = openTransparent(from, 7)!;
    const client = new Socket({ fd, manualStart: true } as object).connect({
      host: to,
      port: (server.address() as AddressInfo).port,
    });
    const [accepted] = (await once(server, "connection")) as [Socket];
    expect(accepted.remoteAddress).toBe(from);
    accepted.end("hello");
    expect(String((await once(client, "data"))[0])).toBe("hello");
    client.destroy();
    server.close();
  });

  it("are bound to addresses that are nobody's here", () => {
    const fd = openTransparent("192.0.2.9", 0);
    expect(fd).not.toBeNull();
    new Socket({ fd: fd!, manualStart: true } as object).destroy();
  });

  it("are not to be had of what is no address or no socket", () => {
    expect(openTransparent("localhost", 0)).toBeNull();
    expect(makeTransparent(-1, 4)).toBe(false);
  });

  it("listen as before", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    expect(makeTransparent(fd, 4)).toBe(true);
    const client = new Socket().connect((server.address() as AddressInfo).port, "127.0.0.1");
    await once(server, "connection");
    client.destroy();
    server.close();
  });
});
