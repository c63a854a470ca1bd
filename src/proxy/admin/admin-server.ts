/**
 * The admin interface: HTTP on the main thread, where the bootstrap says, with Envoy's paths and shapes.
 *
 * It answers operators, agents and scrapers, never the proxy's users; it is bound where the bootstrap says and nowhere
 * else. Heads, bodies, connections and the time for a request are limited; what is no HTTP gets 400.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { ConfigError } from "../../api/config-error.ts";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { listenOn } from "../../platform/port-sharing.ts";
import type { ProxyServer } from "../server.ts";
import type { AdminResponse } from "./admin-handler.ts";
import { helpText } from "./home.ts";
import { adminHandlers } from "./index.ts";
import { writePage } from "./write-page.ts";

const maxHeadBytes = 60 * 1024;
const maxBodyBytes = 64 * 1024;
const maxConnections = 256;
const requestTimeoutMs = 30_000;

const contentTypes = {
  text: "text/plain; charset=UTF-8",
  plain: "text/plain",
  json: "application/json",
  html: "text/html; charset=UTF-8",
} as const;

export class AdminServer implements AsyncDisposable {
  /** Where it is bound; port 0 for a Unix domain socket. */
  readonly address: { readonly address: string; readonly port: number };
  #server: Server;

  private constructor(server: Server, address: AdminServer["address"]) {
    this.#server = server;
    this.address = address;
  }

  /** Throws ConfigError when the address is taken or none. */
  static async start(proxy: ProxyServer, address: Address): Promise<AdminServer> {
    const log = proxy.options.log.scope("admin");
    const server = createServer(
      { maxHeaderSize: maxHeadBytes, requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, keepAliveTimeout: 60_000 },
      (request, response) => {
        answer(proxy, request, response).catch((error: unknown) => {
          log.error("Cannot answer an admin request", { path: request.url, error });
          response.destroy();
        });
      },
    );
    server.maxConnections = maxConnections;
    const { where, options } = listenOptions(address);
    try {
      await listenOn(server, options, proxy.options.adminSharing);
    } catch (error) {
      const cause = error as NodeJS.ErrnoException;
      const reason = cause.code === "EADDRINUSE" ? "Address already in use" : cause.message;
      throw new ConfigError(`cannot bind '${where}': ${reason}`, { cause });
    }
    const bound = server.address() as AddressInfo | string;
    log.info("admin address", { address: where });
    return new AdminServer(server, typeof bound === "string" ? { address: bound, port: 0 } : { address: bound.address, port: bound.port });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      // The answer to /quitquitquit may still be on its way.
      setImmediate(() => this.#server.closeAllConnections());
    });
  }
}

function listenOptions({ address }: Address): { where: string; options: { host?: string; port?: number; path?: string } } {
  switch (address.case) {
    case "pipe":
      return { where: address.value.path, options: { path: address.value.path } };
    case "socketAddress": {
      const { address: host, portSpecifier } = address.value;
      const port = portSpecifier.case === "portValue" ? portSpecifier.value : 0;
      return { where: `${host.includes(":") ? `[${host}]` : host}:${port}`, options: { host, port } };
    }
    default:
      throw new ConfigError(`admin.address: an address of kind ${address.case ?? "none"} is not supported`);
  }
}

async function answer(proxy: ProxyServer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = "", url = "/" } = request;
  if (!(await discardBody(request))) {
    await send(response, method, { status: 413, body: "Payload Too Large" });
    return;
  }
  const question = url.indexOf("?");
  const path = question < 0 ? url : url.slice(0, question);
  const query = new URLSearchParams(question < 0 ? "" : url.slice(question + 1));
  const handler = adminHandlers.find((candidate) => candidate.path === path);
  if (!handler) {
    await send(response, method, { status: 404, body: `invalid path. ${helpText(adminHandlers)}` });
  } else if (handler.mutates && method !== "POST") {
    proxy.options.log.scope("admin").error(`admin path "${path}" mutates state, method=${method} rather than POST`);
    await send(response, method, { status: 405, body: `Method ${method} not allowed, POST required.` });
  } else if (!["GET", "HEAD", "POST"].includes(method)) {
    await send(response, method, { status: 405, body: `Method ${method} not allowed, GET required.` });
  } else {
    await send(response, method, await handler.handle(proxy, { path, query, handlers: adminHandlers }));
  }
}

/** Resolves when all is written, or nobody is there to read it. */
async function send(response: ServerResponse, method: string, { status = 200, type = "text", body }: AdminResponse): Promise<void> {
  response.sendDate = false;
  const headers = {
    "content-type": contentTypes[type],
    "cache-control": "no-cache, max-age=0",
    "x-content-type-options": "nosniff",
    date: new Date().toUTCString(),
    server: "envoy",
  };
  if (typeof body !== "string") {
    response.writeHead(status, headers);
    if (method === "HEAD") response.end();
    else await writePage(response, body);
    return;
  }
  const bytes = Buffer.from(body, "utf8");
  response.writeHead(status, { ...headers, "content-length": bytes.length });
  response.end(method === "HEAD" ? undefined : bytes);
}

/** No admin path reads a body; a small one is passed over. False when it is too long. */
async function discardBody(request: IncomingMessage): Promise<boolean> {
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBodyBytes) return false;
  }
  return true;
}
