import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { SocketFile } from "./socket-file.ts";

const directory = mkdtempSync(join(tmpdir(), "socket-file-"));
afterAll(() => rmSync(directory, { recursive: true }));

const listenOn = (server: Server) => async (path: string) => {
  server.listen(path);
  await once(server, "listening");
};

it("is another's once he has taken it, and goes with its last owner", async () => {
  const path = join(directory, "below", "S");
  const [first, second] = [createServer((socket) => socket.end("first")), createServer((socket) => socket.end("second"))];
  const ours = await SocketFile.make(path, listenOn(first));
  const theirs = await SocketFile.make(path, listenOn(second));
  first.close();
  await once(first, "close");
  await ours[Symbol.asyncDispose]();
  const [answer] = (await once(connect(path), "data")) as [Buffer];
  expect(answer.toString()).toBe("second");
  await theirs[Symbol.asyncDispose]();
  expect(existsSync(path)).toBe(false);
  second.close();
});

it("is there for whoever comes, also when one goes in the moment in which another takes it", async () => {
  const path = join(directory, "moment");
  for (let round = 0; round < 200; round++) {
    const [first, second] = [createServer((socket) => socket.end("first")), createServer((socket) => socket.end("second"))];
    const ours = await SocketFile.make(path, listenOn(first));
    first.close();
    const [theirs] = await Promise.all([SocketFile.make(path, listenOn(second)), ours[Symbol.asyncDispose]()]);
    const [answer] = (await once(connect(path), "data")) as [Buffer];
    expect(answer.toString()).toBe("second");
    second.close();
    await theirs[Symbol.asyncDispose]();
  }
  expect(readdirSync(directory)).toEqual(["below"]);
});
