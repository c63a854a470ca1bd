/**
 * An application and its caller inside a network namespace, as a program of its own.
 *
 *     serve ADDRESS http:8080 echo:9000 greeting:9001 peer:9004 dns:53    prints `ready`; runs until its input ends
 *     get URL                                            prints the status and the body
 *     send ADDRESS PORT TEXT                             prints what came back within the time, TEXT "" waits to be spoken to
 */
import { createServer as createHttpServer, get } from "node:http";
import { connect, createServer } from "node:net";
import { DnsUpstream, reply } from "./dns-upstream.ts";

const patienceMs = 4000;

const servers: Record<string, (address: string, port: number) => Promise<unknown>> = {
  http: (address, port) =>
    new Promise<void>((resolve) => {
      createHttpServer({ keepAliveTimeout: 600_000 }, ({ url: path, headers, socket }, response) =>
        response.end(JSON.stringify({ path, headers, peer: socket.remoteAddress, name: process.env.NAME })),
      ).listen(port, address, resolve);
    }),
  echo: (address, port) =>
    new Promise<void>((resolve) => {
      createServer((socket) => socket.on("data", (bytes) => socket.write(`echo:${bytes}`)).on("error", () => {})).listen(
        port,
        address,
        resolve,
      );
    }),
  /** Knows `outside.example` and no other name. */
  dns: (address, port) =>
    DnsUpstream.start(
      (asked) => [
        asked.name === "outside.example." ? reply(asked, asked.type === 1 ? { addresses: ["192.0.2.7"] } : {}) : reply(asked, { code: 3 }),
      ],
      address,
      port,
    ),
  /** Says who it is that calls. */
  peer: (address, port) =>
    new Promise<void>((resolve) => {
      createServer((socket) => socket.on("error", () => {}).write(`peer ${socket.remoteAddress}`)).listen(port, address, resolve);
    }),
  greeting: (address, port) =>
    new Promise<void>((resolve) => {
      createServer((socket) => socket.on("error", () => {}).write("greeting")).listen(port, address, resolve);
    }),
};

const [command, first = "", ...rest] = process.argv.slice(2);
switch (command) {
  case "serve":
    await Promise.all(rest.map((entry) => servers[entry.split(":")[0]!]!(first, Number(entry.split(":")[1]))));
    process.stdout.write("ready\n");
    process.stdin.resume().on("end", () => process.exit());
    break;
  case "get":
    get(first, { agent: false, timeout: patienceMs }, (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += chunk;
      });
      response.on("end", () => process.stdout.write(`${response.statusCode} ${body}`));
    })
      .on("timeout", function (this: { destroy(): void }) {
        this.destroy();
      })
      .on("error", (error: NodeJS.ErrnoException) => process.stdout.write(`failed ${error.code}`));
    break;
  case "send": {
    const [port, text = ""] = rest;
    const socket = connect(Number(port), first);
    let received = "";
    const end = () => {
      process.stdout.write(received);
      process.exit();
    };
    if (text !== "") socket.write(text);
    socket.on("data", (bytes) => {
      received += bytes;
      setTimeout(end, 50);
    });
    socket.on("error", end).on("end", end);
    setTimeout(end, patienceMs);
    break;
  }
}
