import { once } from "node:events";
import { createServer as createHttpServer, get } from "node:http";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { describe, expect, it } from "vitest";
import { listen } from "./listen.ts";
import { listenAnywhere } from "./listen-anywhere.ts";

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));
const portOf = (server: Server) => (server.address() as AddressInfo).port;

describe("listenAnywhere", () => {
  it("takes connections of both families on one port, from addresses as they are", async () => {
    const server = createServer((socket) => socket.end(`you are ${socket.remoteAddress}`));
    const other = await listenAnywhere(server, { port: 0 });
    const port = portOf(server);
    const answer = async (host: string) => String((await once(connect(port, host), "data"))[0]);
    expect(await answer("127.0.0.1")).toBe("you are 127.0.0.1");
    if (hasIpv6) expect(await answer("::1")).toBe("you are ::1");
    other[Symbol.dispose]();
    server.close();
    for (const host of ["127.0.0.1", "::1"])
      await expect(answer(host)).rejects.toThrow(hasIpv6 ? "ECONNREFUSED" : /ECONNREFUSED|EADDRNOTAVAIL/);
  });

  it("is for servers of HTTP as well", async () => {
    const server = createHttpServer((request, response) => response.end(request.socket.remoteAddress));
    using _ = await listenAnywhere(server, { port: 0 });
    const answer = (host: string) =>
      new Promise<string>((resolve, reject) =>
        get({ host, port: portOf(server) }, async (response) => resolve(String((await response.toArray()).join("")))).on("error", reject),
      );
    expect(await answer("127.0.0.1")).toBe("127.0.0.1");
    if (hasIpv6) expect(await answer("::1")).toBe("::1");
    server.closeAllConnections();
    server.close();
  });

  it.skipIf(!hasIpv6)("wants the port of both families", async () => {
    const taken = createServer();
    await listen(taken, { host: "::1", port: 0 });
    const server = createServer();
    await expect(listenAnywhere(server, { port: portOf(taken) })).rejects.toThrow("EADDRINUSE");
    expect(server.listening).toBe(false);
    taken.close();
  });
});
