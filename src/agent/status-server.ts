/**
 * The agent's own port, 15020: readiness of the proxy, and metrics of agent, proxy and application in one scrape.
 * Source: Istio pilot/cmd/pilot-agent/status/server.go.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Gauge, Registry } from "prom-client";
import { closeHttp } from "../lib/http-listen.ts";
import { log } from "../lib/log.ts";
import { isLoopback } from "../lib/loopback.ts";
import { version } from "../lib/version.ts";
import { listenOn, type PortSharing } from "../platform/port-sharing.ts";
import { type AppProbes, isAppProbePath } from "./health/app-probes.ts";
import type { ConfigSource } from "./last-good/control-plane-choice.ts";
import { MergedMetrics } from "./metrics/merged-metrics.ts";
import type { MetricsSources } from "./metrics/metrics-sources.ts";
import { sendPage, takesGzip } from "./metrics/send-page.ts";
import type { Troubles } from "./troubles.ts";

const scope = log.scope("status");

export interface StatusServerOptions extends MetricsSources {
  readonly host: string;
  readonly port: number;
  /** Default: alone. */
  readonly sharing?: PortSharing;
  /** Whether the proxy serves with configuration from the control plane. */
  readonly isReady: () => Promise<boolean>;
  /** POST /quitquitquit: end at once. */
  readonly onQuit: () => void;
  /** POST /drain. */
  readonly onDrain: () => Promise<void>;
  /** Where what the proxy runs on came from. */
  readonly configSource?: () => ConfigSource;
  readonly troubles?: Pick<Troubles, "names">;
  /** Absent: the agent answers no DNS queries. */
  readonly dns?: DnsStatus | undefined;
  /** Of the application; absent: none are taken. */
  readonly appProbes?: Pick<AppProbes, "answer"> | undefined;
}

export interface DnsStatus {
  readonly isReady: boolean;
  readonly metrics: Registry;
  /** The names that are answered; undefined before the first table. */
  describe(): unknown;
}

/** Scrapes at a time: each may have some megabytes of applications' in memory. */
const maxScrapes = 8;
export class StatusServer implements AsyncDisposable {
  readonly #http: Server;
  readonly #options: StatusServerOptions;
  readonly #registry = new Registry();
  readonly #metrics: MergedMetrics;
  #scrapes = 0;

  private constructor(options: StatusServerOptions) {
    this.#options = options;
    new Gauge({ name: "istio_agent_build", help: "Version of the agent.", labelNames: ["tag"], registers: [this.#registry] }).set(
      { tag: version },
      1,
    );
    const { dns, proxyMetricsUrl, application, applicationHost } = options;
    this.#metrics = new MergedMetrics({
      registry: this.#registry,
      others: dns ? [dns.metrics] : [],
      proxyUrl: proxyMetricsUrl,
      application,
      applicationHost,
    });
    const { configSource, troubles } = options;
    if (troubles) {
      new Gauge({
        name: "istio_agent_trouble",
        help: "1 for each thing that is wrong with the machine while the agent goes on: a disk that is full, a clock that is not right.",
        labelNames: ["what"],
        registers: [this.#registry],
        collect() {
          this.reset();
          for (const what of troubles.names) this.set({ what }, 1);
        },
      });
    }
    if (configSource) {
      new Gauge({
        name: "istio_agent_config_source",
        help: "Where the proxy's configuration came from: the control plane, or the last good one kept on disk. 1 for the one that holds.",
        labelNames: ["source"],
        registers: [this.#registry],
        collect() {
          for (const source of ["control plane", "last good"]) this.set({ source }, configSource() === source ? 1 : 0);
        },
      });
    }
    this.#http = createServer(
      { maxHeaderSize: 16 * 1024, requestTimeout: 30_000 },
      (request, response) => void this.#handle(request, response),
    );
    this.#http.maxConnections = 256;
  }

  static async start(options: StatusServerOptions): Promise<StatusServer> {
    const made = new StatusServer(options);
    await listenOn(made.#http, { host: options.host, port: options.port }, options.sharing ?? "alone");
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
      const { pathname, search } = new URL(request.url ?? "/", "http://localhost");
      switch (pathname) {
        case "/healthz/ready":
          return empty(response, this.#options.dns?.isReady !== false && (await this.#options.isReady()) ? 200 : 503);
        case "/metrics":
        case "/stats/prometheus":
          return await this.#tellMetrics(request, response, search);
        case "/quitquitquit":
          if (!localPost(request, response)) return;
          response.writeHead(200).end("OK");
          return this.#options.onQuit();
        case "/drain":
          if (!localPost(request, response)) return;
          await this.#options.onDrain();
          return void response.writeHead(200).end("OK");
        case "/debug/ndsz":
          return this.#names(request, response);
        default:
          if (this.#options.appProbes && isAppProbePath(pathname)) {
            const { status, body } = await this.#options.appProbes.answer(pathname, request);
            return void response.writeHead(status).end(body);
          }
          return empty(response, 404);
      }
    } catch (error) {
      scope.error("request failed", { path: request.url, error });
      if (!response.headersSent) empty(response, 500);
    }
  }

  /** 200 whoever of the sources fails: that is counted. */
  async #tellMetrics({ socket, headers }: IncomingMessage, response: ServerResponse, search: string): Promise<void> {
    if (this.#options.tellsMetricsLocally && !isLoopback(socket.remoteAddress)) return empty(response, 403);
    if (this.#scrapes === maxScrapes) return empty(response, 503);
    this.#scrapes++;
    try {
      const { contentType, body } = await this.#metrics.page({
        search,
        accept: headers.accept ?? "",
        userAgent: headers["user-agent"] ?? "",
        timeoutSeconds: String(headers["x-prometheus-scrape-timeout-seconds"] ?? ""),
      });
      await sendPage(response, contentType, body, takesGzip(headers["accept-encoding"]));
    } finally {
      this.#scrapes--;
    }
  }

  #names(request: IncomingMessage, response: ServerResponse): void {
    if (!isLoopback(request.socket.remoteAddress)) return void empty(response, 403);
    const names = this.#options.dns?.describe();
    response.writeHead(names === undefined ? 404 : 200, { "content-type": "application/json" }).end(JSON.stringify(names ?? {}));
  }
}

/** Answers for itself, and says no, when the request is not a POST from this machine. */
function localPost(request: IncomingMessage, response: ServerResponse): boolean {
  const refusal = !isLoopback(request.socket.remoteAddress) ? 403 : request.method !== "POST" ? 405 : undefined;
  if (refusal !== undefined) empty(response, refusal);
  return refusal === undefined;
}

function empty(response: ServerResponse, status: number): void {
  response.writeHead(status).end();
}
