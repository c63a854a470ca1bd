import { createSocket } from "node:dgram";
import { getServers, setServers } from "node:dns";
import { once } from "node:events";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { ownChannel } from "./grpc-channel.ts";

it("asks no name server for settings", async () => {
  const silent = createSocket("udp4");
  const asked: Buffer[] = [];
  silent.on("message", (query) => asked.push(query));
  silent.bind(0, "127.0.0.1");
  await once(silent, "listening");
  const before = getServers();
  setServers([`127.0.0.1:${silent.address().port}`]);
  const server = new Server();
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  const client = new Client(`dns:localhost:${port}`, credentials.createInsecure(), ownChannel);
  try {
    await new Promise<void>((resolve, reject) => client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve())));
    expect(asked).toEqual([]);
  } finally {
    client.close();
    server.forceShutdown();
    setServers(before);
    silent.close();
  }
});
