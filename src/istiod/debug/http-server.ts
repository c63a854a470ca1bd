/**
 * The HTTP port of the control plane: /metrics, /version, /ready and the /debug pages.
 *
 * Debug pages show configuration, so they answer loopback clients alone; metrics, version and readiness answer everybody.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { closeHttp, listenHttp } from "../../lib/http-listen.ts";
import { log } from "../../lib/log.ts";
import { isLoopback } from "../../lib/loopback.ts";
import type { DiscoveryServer } from "../discovery-server.ts";
import { DebugError } from "./handlers.ts";
import { isDebugPath, monitoringPage } from "./monitoring-pages.ts";

const scope = log.scope("monitoring");

export class MonitoringServer implements AsyncDisposable {
  readonly #http: Server;
  readonly #server: DiscoveryServer;

  private constructor(server: DiscoveryServer) {
    this.#server = server;
    this.#http = createServer(
      { maxHeaderSize: 16 * 1024, requestTimeout: 30_000 },
      (request, response) => void this.#handle(request, response),
    );
    this.#http.maxConnections = 1024;
  }

  static async start(server: DiscoveryServer, host: string, port: number): Promise<MonitoringServer> {
    const made = new MonitoringServer(server);
    await listenHttp(made.#http, host, port);
    made.#http.on("error", (error) => scope.warn("a connection is lost", { reason: error.message }));
    return made;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeHttp(this.#http);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = URL.parse(request.url ?? "/", "http://localhost");
      if (!url) return text(response, 400, "bad request\n");
      if (request.method !== "GET" && request.method !== "HEAD") return text(response, 405, "method not allowed\n");
      if (isDebugPath(url.pathname) && !isLoopback(request.socket.remoteAddress))
        throw new DebugError(403, "debug pages are served to this machine alone");
      const { status, contentType, body } = await monitoringPage(this.#server, url.pathname, url.searchParams);
      response.writeHead(status, { "content-type": contentType }).end(body);
    } catch (error) {
      if (error instanceof DebugError) return text(response, error.status, `${error.message}\n`);
      scope.error("request failed", { path: request.url, error: error instanceof Error ? (error.stack ?? error.message) : error });
      if (!response.headersSent) text(response, 500, "internal error\n");
    }
  }
}

function text(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(body);
}
