import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { originalDestination, readSocketAddress } from "./original-destination.ts";

describe("originalDestination", () => {
  it.each([
    ["0200 1f90 0a60000a 0000000000000000 000000000000000000000000", { ip: "10.96.0.10", port: 8080 }],
    ["0a00 01bb 00000000 fd000000000000000000000000000012 00000000", { ip: "fd00::12", port: 443 }],
    ["0a00 0050 00000000 00000000000000000000000000000001 00000000", { ip: "::1", port: 80 }],
    ["0100 0000 00000000 0000000000000000 000000000000000000000000", null],
  ])("reads the address %s", (hex, expected) => {
    expect(readSocketAddress(Buffer.from(hex.replaceAll(" ", ""), "hex"))).toEqual(expected);
  });

  it("knows nothing else of a connection that nobody redirected than where it is, and nothing of one that is gone", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const client = connect(port, "127.0.0.1");
    const [accepted] = (await once(server, "connection")) as [Socket];
    const { fd } = (accepted as unknown as { readonly _handle: { readonly fd: number } })._handle;
    expect([null, { ip: "127.0.0.1", port }]).toContainEqual(originalDestination({ fd, isIpv4: true }));
    expect(originalDestination({ fd: -1, isIpv4: true })).toBeNull();
    accepted.destroy();
    client.destroy();
    server.close();
  });
});
