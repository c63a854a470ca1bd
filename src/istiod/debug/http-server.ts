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
import { revision, version } from "../../lib/version.ts";
import type { DiscoveryServer } from "../discovery-server.ts";
import { DebugError, debugPages } from "./handlers.ts";

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
      if (url.pathname === "/metrics") {
        this.#server.collectMetrics();
        const body = await this.#server.metrics.registry.metrics();
        return void response.writeHead(200, { "content-type": this.#server.metrics.registry.contentType }).end(body);
      }
      if (url.pathname === "/version") return text(response, 200, `${version}-${revision}-Clean`);
      if (url.pathname === "/ready") return text(response, this.#server.isReady ? 200 : 503, "");
      if (url.pathname === "/debug" || url.pathname.startsWith("/debug/")) return this.#debug(request, response, url);
      return text(response, 404, "404 page not found\n");
    } catch (error) {
      if (error instanceof DebugError) return text(response, error.status, `${error.message}\n`);
      scope.error("request failed", { path: request.url, error: error instanceof Error ? (error.stack ?? error.message) : error });
      if (!response.headersSent) text(response, 500, "internal error\n");
    }
  }

  #debug(request: IncomingMessage, response: ServerResponse, url: URL): void {
    if (!isLoopback(request.socket.remoteAddress)) throw new DebugError(403, "debug pages are served to this machine alone");
    const name = url.pathname.slice("/debug/".length) || "list";
    const page = Object.hasOwn(debugPages, name) ? debugPages[name] : undefined;
    if (!page) throw new DebugError(404, `no debug page "${name}"; see /debug/list`);
    const body = `${JSON.stringify(page.handle(this.#server, url.searchParams), undefined, 2)}\n`;
    response.writeHead(200, { "content-type": "application/json" }).end(body);
  }
}

function text(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(body);
}
