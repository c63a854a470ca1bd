/** Proxies as companies have them: HTTP with CONNECT, over TLS or not, and SOCKS 5. Every name is 127.0.0.1 to them, which nobody else knows. */
import { createServer as createHttpServer, request as httpRequest } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export interface TestHttpProxy extends AsyncDisposable {
  readonly port: number;
  /** `GET http://…`, `CONNECT host:port`, `SOCKS host:port`, with ` as user:password` behind it where somebody signed on. */
  readonly asked: string[];
}

export async function startHttpProxy(tls?: { readonly key: string; readonly certificate: string }): Promise<TestHttpProxy> {
  const asked: string[] = [];
  const user = (authorization: string | undefined) =>
    authorization === undefined ? "" : ` as ${Buffer.from(authorization.split(" ")[1]!, "base64").toString()}`;
  const server = tls ? createHttpsServer({ key: tls.key, cert: tls.certificate }) : createHttpServer();
  server.on("request", (request, response) => {
    const { "proxy-authorization": authorization, ...headers } = request.headers;
    asked.push(`${request.method} ${request.url}${user(authorization)}`);
    const { port, pathname, search } = new URL(request.url!);
    const sent = httpRequest({ host: "127.0.0.1", port, path: `${pathname}${search}`, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    sent.on("error", () => response.writeHead(502).end());
    sent.end();
  });
  server.on("connect", (request, socket: Socket, head: Buffer) => {
    asked.push(`CONNECT ${request.url}${user(request.headers["proxy-authorization"])}`);
    const upstream = connect(Number(request.url!.split(":").at(-1)), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    upstream.on("error", () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    socket.on("error", () => upstream.destroy());
  });
  return started(server, asked);
}

/** With `password`, users have to sign on by it. */
export async function startSocksProxy(password?: string): Promise<TestHttpProxy> {
  const asked: string[] = [];
  const server = createServer((socket) => {
    let state: "greeting" | "password" | "request" | "open" = "greeting";
    let user = "";
    let received: Buffer = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      if (state === "open") return;
      received = Buffer.concat([received, bytes]);
      if (state === "greeting" && received.length >= 2 + received[1]!) {
        state = password === undefined ? "request" : "password";
        socket.write(Buffer.from([5, password === undefined ? 0 : 2]));
        received = received.subarray(2 + received[1]!);
      } else if (state === "password") {
        const name = received.subarray(2, 2 + received[1]!);
        const given = received.subarray(3 + name.length);
        const isRight = given.toString() === password;
        user = ` as ${name}:${given}`;
        socket.write(Buffer.from([1, isRight ? 0 : 1]));
        received = Buffer.alloc(0);
        state = "request";
      } else if (state === "request" && received.length >= 7) {
        const isName = received[3] === 3;
        const length = isName ? received[4]! + 1 : 4;
        const host = isName ? received.subarray(5, 4 + length).toString() : [...received.subarray(4, 8)].join(".");
        const port = received.readUInt16BE(4 + length);
        asked.push(`SOCKS ${host}:${port}${user}`);
        state = "open";
        const upstream = connect(port, "127.0.0.1", () => {
          socket.write(Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]));
          socket.pipe(upstream).pipe(socket);
        });
        upstream.on("error", () => socket.end(Buffer.from([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])));
      }
    });
  });
  return started(server, asked);
}

async function started(server: Server, asked: string[]): Promise<TestHttpProxy> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
