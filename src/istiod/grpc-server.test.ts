import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { ServerCredentials } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { GrpcServer, type GrpcServerOptions } from "./grpc-server.ts";

const start = (options: Partial<GrpcServerOptions> = {}) =>
  GrpcServer.start({ host: "127.0.0.1", port: 0, credentials: ServerCredentials.createInsecure(), services: [], ...options });

describe("GrpcServer", () => {
  it("takes several of the connections that come at once each time that the event loop comes around", async () => {
    await using server = await start();
    const count = 64;
    let turns = 0;
    let isOver = false;
    const turn = () => {
      turns++;
      if (!isOver) setImmediate(turn);
    };
    turn();
    const sockets: Socket[] = [];
    // Settings are the server's first word to whom it has taken.
    const greeted = Array.from({ length: count }, () => {
      const socket = connect(server.port, "127.0.0.1");
      sockets.push(socket);
      return new Promise((resolve) => socket.once("data", resolve));
    });
    await Promise.all(greeted);
    isOver = true;
    for (const socket of sockets) socket.destroy();
    // A single listener takes one a turn.
    expect(turns).toBeLessThan(count);
  });

  it("cuts connections when it is closed, also of those who neither answer nor go", async () => {
    const server = await start();
    const client = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    client.on("error", () => undefined);
    const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    client.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), emptySettings]));
    await once(client, "data");
    await server[Symbol.asyncDispose]();
    const ended = new Promise((resolve) => client.once("close", resolve));
    // Only who is still connected takes it.
    const talk = setInterval(() => client.write(emptySettings), 5);
    await ended;
    clearInterval(talk);
  });

  it("has its port for itself, as long as it is there", async () => {
    const server = await start();
    const { port } = server;
    await expect(start({ port })).rejects.toThrow("EADDRINUSE");
    await server[Symbol.asyncDispose]();
    await using again = await start({ port });
    expect(again.port).toBe(port);
  });
});
