/**
 * A WebSocket server that we have not written: Python's `websockets`, from its PyPI wheel, fetched once into build/websockets. It sends every
 * message back; on a path that begins with `/push` it sends 500 of its own first.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const version = "17.4";
const directory = fileURLToPath(new URL("../../build/websockets", import.meta.url));
const library = path.join(directory, `websockets-${version}`);

function obtain(): string | undefined {
  if (existsSync(library)) return library;
  // Several suites may want it at once: each works in a directory of its own, and the first rename wins.
  const work = path.join(directory, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const pure = ["--platform", "any", "--only-binary=:all:"];
    const pip = [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--no-deps",
      "--disable-pip-version-check",
      ...pure,
      "-d",
      work,
      `websockets==${version}`,
    ];
    execFileSync("python3", pip, { stdio: ["ignore", "ignore", "pipe"] });
    const wheel = readdirSync(work).find((name) => name.endsWith(".whl"));
    if (!wheel) throw new Error("pip gave no wheel");
    const unpacked = path.join(work, "unpacked");
    execFileSync("python3", ["-m", "zipfile", "-e", path.join(work, wheel), unpacked], { stdio: ["ignore", "ignore", "pipe"] });
    renameSync(unpacked, library);
    return library;
  } catch (error) {
    if (existsSync(library)) return library;
    process.stderr.write(`skipped: no websockets ${version} to be had: ${(error as Error).message.split("\n").slice(0, 3).join(" ")}\n`);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Undefined where it can't be had. */
export const websocketLibrary = obtain();

const program = `
import asyncio
from websockets.asyncio.server import serve
async def handle(socket):
    if socket.request.path.startswith("/push"):
        for number in range(500):
            await socket.send(f"message {number}")
    async for message in socket:
        await socket.send(message)
async def main():
    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None, close_timeout=2) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
`;

export async function startWebSocketServer(): Promise<AsyncDisposable & { readonly port: number }> {
  if (!websocketLibrary) throw new Error("there is no WebSocket library");
  const child = spawn("python3", ["-c", program], {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, PYTHONPATH: websocketLibrary },
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.once("data", (text: Buffer) => resolve(Number(text.toString())));
    child.once("exit", (code) => reject(new Error(`the WebSocket server ended: ${code}`)));
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
