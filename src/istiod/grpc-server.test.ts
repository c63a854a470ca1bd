import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { Client, credentials, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { GrpcServer, type GrpcServerOptions, type GrpcService } from "./grpc-server.ts";
import { Newcomers } from "./newcomers.ts";

const start = (options: Partial<GrpcServerOptions> = {}) =>
  GrpcServer.start({ host: "127.0.0.1", port: 0, credentials: ServerCredentials.createInsecure(), services: [], ...options });

const asItIs = (bytes: Buffer) => bytes;
const path = "/test.Echo/Call";
const echo: GrpcService = {
  definition: {
    Call: {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: asItIs,
      requestDeserialize: asItIs,
      responseSerialize: asItIs,
      responseDeserialize: asItIs,
    },
  },
  implementation: { Call: (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => answer(null, call.request) },
};
const callEcho = (client: Client) =>
  new Promise<void>((resolve, reject) =>
    client.makeUnaryRequest(path, asItIs, asItIs, Buffer.from("a"), (error) => (error ? reject(error) : resolve())),
  );

describe("GrpcServer", () => {
  it("tells of newcomers: who has connected, until he calls or goes", async () => {
    const newcomers = new Newcomers();
    await using server = await start({ newcomers, services: [echo] });
    const greeted = async () => {
      const socket = connect(server.port, "127.0.0.1");
      // Settings are the server's first word to whom it has taken.
      await once(socket, "data");
      return socket;
    };
    expect(newcomers.areWaiting()).toBe(false);
    const silent = await greeted();
    const leaving = await greeted();
    expect(newcomers.areWaiting()).toBe(true);
    const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
    await callEcho(client);
    expect(newcomers.areWaiting()).toBe(true);
    silent.destroy();
    leaving.destroy();
    await expect.poll(() => newcomers.areWaiting()).toBe(false);
    client.close();
    // Who has called is none, for as long as he stays.
    const another = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
    await callEcho(another);
    expect(newcomers.areWaiting()).toBe(false);
    another.close();
  });

  it("has room for agents that connect in one moment, before it has taken any", async () => {
    await using server = await start();
    const sockets = Array.from({ length: 700 }, () => connect(server.port, "127.0.0.1"));
    const connected = Promise.all(sockets.map((socket) => once(socket, "connect")));
    // They knock in this turn of the event loop, and none is let in before the next. Who finds no room knocks again after a second.
    await new Promise(process.nextTick);
    const port = server.port.toString(16).toUpperCase().padStart(4, "0");
    const synSent = "02";
    const waiting = readFileSync("/proc/net/tcp", "utf8").match(new RegExp(` 0100007F:${port} ${synSent} `, "g"));
    await connected;
    for (const socket of sockets) socket.destroy();
    expect(waiting).toBeNull();
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
