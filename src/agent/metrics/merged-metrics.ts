/**
 * The metrics of agent, proxy and application in one page.
 *
 *   GET 15020 /stats/prometheus ──> agent's own
 *                               ──> 15090, the proxy's: text, whatever is wanted
 *                               ──> the application's, one place or several: last, and the page has their format
 *
 * A source that fails is counted and left out, so that the others are heard of all the same. The proxy's page may be hundreds of
 * megabytes: it is passed on as it comes, no faster than the scraper takes it. Where it breaks off after that has begun, it ends with its
 * last whole line.
 * Source: Istio pilot/cmd/pilot-agent/status/server.go (handleStats).
 */
import { Counter, type Registry } from "prom-client";
import { log } from "../../lib/log.ts";
import { formatOf, isOpenMetrics, textFormat, wishes } from "./media-types.ts";
import { type OpenScrape, openScrape, type Scrape, scrape } from "./scrape.ts";
import type { ScrapeTarget } from "./scrape-targets.ts";
import { wholeLines } from "./whole-lines.ts";

const scope = log.scope("status");

/** Of one place of the application; one that has more is left out. */
const maxBytes = 10 * 1024 * 1024;
/** So much of the proxy's page is kept until it is sure to go on or to be whole. */
const heldBackBytes = 1024 * 1024;
/** Prometheus' own default. */
const defaultTimeoutMs = 10_000;
const maxTimeoutMs = 60_000;
/** Share of the scraper's time that sources get: what came must reach it before it gives up. */
const usableTime = 0.9;

export interface MergedMetricsOptions {
  readonly registry: Registry;
  /** Further metrics of the agent's. */
  readonly others: readonly Registry[];
  /** The proxy's, `http://127.0.0.1:15090/stats/prometheus`; undefined: it is not asked. */
  readonly proxyUrl: string | undefined;
  readonly application: readonly ScrapeTarget[];
  /** Where the application is. */
  readonly applicationHost: string;
}

/** What of a scraper's request the sources hear of. */
export interface MetricsRequest {
  /** With its question mark; "" when there is none. */
  readonly search: string;
  readonly accept: string;
  readonly userAgent: string;
  /** `x-prometheus-scrape-timeout-seconds` */
  readonly timeoutSeconds: string;
}

export interface MetricsPage {
  readonly contentType: string;
  readonly body: AsyncGenerator<Buffer, void>;
}

export class MergedMetrics {
  readonly #options: MergedMetricsOptions;
  readonly #scrapes: Counter;
  readonly #failures: Counter<"type">;

  constructor(options: MergedMetricsOptions) {
    this.#options = options;
    const registers = [options.registry];
    this.#scrapes = new Counter({ name: "istio_agent_scrapes_total", help: "Scrapes of the merged metrics.", registers });
    this.#failures = new Counter({
      name: "istio_agent_scrape_failures_total",
      help: "Scrapes in which a source did not answer, by source.",
      labelNames: ["type"],
      registers,
    });
  }

  async page({ search, accept, userAgent, timeoutSeconds }: MetricsRequest): Promise<MetricsPage> {
    this.#scrapes.inc();
    const { proxyUrl, application, applicationHost, registry, others } = this.#options;
    const asked = Number(timeoutSeconds);
    const timeoutMs = asked > 0 ? Math.min(asked * 1000 * usableTime, maxTimeoutMs) : defaultTimeoutMs;
    const request = (takesOpenMetrics: boolean) => ({
      headers: {
        accept: wishes(accept, takesOpenMetrics),
        ...(userAgent ? { "user-agent": userAgent } : {}),
        "x-prometheus-scrape-timeout-seconds": String(timeoutMs / 1000),
      },
      timeoutMs,
    });
    const askApplication = ({ port, path }: ScrapeTarget) => {
      const url = `http://${applicationHost}:${port}${path}`;
      return scrape(url, request(true), maxBytes).catch((error: unknown) => this.#failed("application", url, error));
    };
    const askProxy = async (url: string) => {
      const opened = await openScrape(url, request(false)).catch((error: unknown) => this.#failed("envoy", url, error));
      return opened && this.#proxyPage(url, opened);
    };
    const [proxy, ...applications] = await Promise.all([
      proxyUrl === undefined ? undefined : askProxy(`${proxyUrl}${search}`),
      ...application.map(askApplication),
    ]);
    const had = applications.filter((page) => page !== undefined);
    const contentType = commonFormat(had);
    const own = await Promise.all([registry, ...others].map((each) => each.metrics()));
    return { contentType, body: joined(own, proxy, had, isOpenMetrics(contentType)) };
  }

  /** In whole lines. What is wrong with it before much of it has come leaves all of it out. */
  async *#proxyPage(url: string, { chunks }: OpenScrape): AsyncGenerator<Buffer, void> {
    let held: Buffer[] | undefined = [];
    let bytes = 0;
    try {
      for await (const lines of wholeLines(chunks)) {
        bytes += lines.length;
        if (held === undefined) yield lines;
        else if (bytes <= heldBackBytes) held.push(lines);
        else {
          yield* held;
          held = undefined;
          yield lines;
        }
      }
    } catch (error) {
      this.#failed("envoy", url, error);
      return;
    }
    if (held) yield* held;
  }

  #failed(type: "envoy" | "application", url: string, error: unknown): undefined {
    this.#failures.inc({ type });
    const reason = error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : error;
    scope.warn(type === "envoy" ? "proxy metrics can't be had" : "application metrics can't be had", { url, reason });
  }
}

/** That of all, or text where they differ. */
function commonFormat(pages: readonly Scrape[]): string {
  const formats = new Set(pages.map(({ contentType }) => formatOf(contentType)));
  const [only] = formats;
  return formats.size === 1 && only !== undefined ? only : textFormat;
}

const newline = "\n".charCodeAt(0);

async function* joined(
  own: readonly string[],
  proxy: AsyncIterable<Buffer> | undefined,
  applications: readonly Scrape[],
  asOpenMetrics: boolean,
): AsyncGenerator<Buffer, void> {
  for (const text of own) yield ended(asOpenMetrics ? strict(Buffer.from(text)) : Buffer.from(text));
  for await (const lines of proxy ?? []) yield asOpenMetrics ? strict(lines) : lines;
  // Its end would be that of all that follows.
  for (const { body } of applications) yield ended(withoutEnd(body));
  if (asOpenMetrics) yield Buffer.from("# EOF\n");
}

/** The next part begins a line. */
function ended(part: Buffer): Buffer {
  return part.length === 0 || part.at(-1) === newline ? part : Buffer.concat([part, Buffer.from([newline])]);
}

/** OpenMetrics knows neither empty lines nor comments of one's own, which the text format allows. */
function strict(lines: Buffer): Buffer {
  return Buffer.from(lines.toString("utf8").replace(/^(?:#(?! (?:HELP|TYPE|UNIT) ).*)?\r?\n/gm, ""));
}

function withoutEnd(body: Buffer): Buffer {
  const tail = body.subarray(-16).toString("latin1");
  const end = /# EOF\s*$/.exec(tail);
  return end ? body.subarray(0, body.length - (tail.length - end.index)) : body;
}
