/** A cluster whose hosts are watched, behind Envoy or our proxy: what is asked of it, and what the proxy says of its hosts. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { askHttp } from "./http-ask.ts";
import { type Mood, MoodyUpstream } from "./moody-upstream.ts";
import { eventually, type RunningProxy } from "./proxies.ts";
import { address, both, proxies, type } from "./static-bootstrap.ts";

type Fields = Record<string, unknown>;

export interface WatchedOptions {
  /** Fields of the cluster. */
  readonly cluster: Fields;
  readonly upstreams: readonly MoodyUpstream[];
  /** Fields of an endpoint (LbEndpoint), by upstream. */
  readonly endpoint?: (upstream: MoodyUpstream) => Fields;
  /** Locality groups instead of one of all upstreams: `{priority, upstreams}` and the like. */
  readonly localities?: readonly (Fields & { readonly upstreams: readonly MoodyUpstream[] })[];
  readonly concurrency?: number;
  /** Of the HTTP listener. Workers share an address only where it has a port of its own. */
  readonly port?: number;
  readonly route?: Fields;
  readonly httpFilters?: readonly Fields[];
}

export interface Asked {
  readonly status: number;
  /** Who has answered; "": the proxy itself. */
  readonly by: string;
  readonly flags: string;
}

export class WatchedCluster implements AsyncDisposable {
  readonly proxy: RunningProxy;
  readonly port: number;
  readonly tcpPort: number;
  readonly #directory: string;
  readonly #upstreams: readonly MoodyUpstream[];
  #logged = 0;

  private constructor(
    proxy: RunningProxy,
    ports: readonly [http: number, tcp: number],
    directory: string,
    upstreams: readonly MoodyUpstream[],
  ) {
    this.proxy = proxy;
    [this.port, this.tcpPort] = ports;
    this.#directory = directory;
    this.#upstreams = upstreams;
  }

  static async start(start: (typeof proxies)[number]["start"], options: WatchedOptions): Promise<WatchedCluster> {
    const directory = mkdtempSync(join(tmpdir(), "topsail-watched-"));
    const { upstreams, concurrency = 2 } = options;
    const proxy = await start(bootstrap(directory, options), { concurrency });
    return new WatchedCluster(proxy, [await proxy.listenerPort("http"), await proxy.listenerPort("tcp")], directory, upstreams);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Over a connection of its own. */
  async ask(headers: Record<string, string> = {}, line = "GET /"): Promise<Omit<Asked, "flags">> {
    const answer = await askHttp("127.0.0.1", this.port, { line, headers, timeoutMs: 10_000 });
    return { status: answer.status, by: String(answer.headers["x-upstream"] ?? "") };
  }

  /** One after the other; with the flags of the access log. */
  async askMany(count: number): Promise<Asked[]> {
    const answers: Omit<Asked, "flags">[] = [];
    for (let i = 0; i < count; i++) answers.push(await this.ask());
    const flags = await this.#flagsOf(count);
    return answers.map((answer, index) => ({ ...answer, flags: flags[index]! }));
  }

  async #flagsOf(count: number): Promise<string[]> {
    const lines = await eventually(() => {
      const all = readFileSync(join(this.#directory, "access.log"), "utf8").split("\n").slice(0, -1);
      return all.length >= this.#logged + count ? all : undefined;
    }, "lines of the access log");
    const mine = lines.slice(this.#logged, this.#logged + count);
    this.#logged += count;
    return mine;
  }

  /** Asks on until the hosts' flags are these, and forgets the access log of it. */
  async askUntil(wanted: Readonly<Record<string, string>>, headers: Record<string, string> = {}): Promise<void> {
    let last = "";
    await eventually(
      async () => {
        const flags = await this.flags();
        last = JSON.stringify(flags);
        if (isLike(flags, wanted)) return true;
        await this.ask(headers);
        this.#logged++;
        return undefined;
      },
      () => `${this.proxy.name}: ${JSON.stringify(wanted)}, but ${last}`,
    );
  }

  /** Waits until the hosts' flags are these. */
  until(wanted: Readonly<Record<string, string>>): Promise<unknown> {
    let last = "";
    return eventually(
      async () => {
        const flags = await this.flags();
        last = JSON.stringify(flags);
        return isLike(flags, wanted) || undefined;
      },
      () => `${this.proxy.name}: ${JSON.stringify(wanted)}, but ${last}`,
    );
  }

  /** `health_flags` of /clusters by upstream. */
  async flags(): Promise<Record<string, string>> {
    return this.hostLines("health_flags");
  }

  async hostLines(field: string): Promise<Record<string, string>> {
    const text = await this.proxy.admin("/clusters");
    const found: Record<string, string> = {};
    for (const { name, port } of this.#upstreams) {
      const value = new RegExp(`^app::127\\.0\\.0\\.1:${port}::${field}::(.*)$`, "m").exec(text)?.[1];
      if (value !== undefined) found[name] = value;
    }
    return found;
  }

  /** `health_status` of /clusters?format=json by upstream. */
  async healthStatus(): Promise<Record<string, unknown>> {
    const { cluster_statuses } = JSON.parse(await this.proxy.admin("/clusters?format=json")) as { cluster_statuses: ClusterJson[] };
    const hosts = cluster_statuses.find(({ name }) => name === "app")?.host_statuses ?? [];
    return Object.fromEntries(
      hosts.map((host) => {
        const name = this.#upstreams.find(({ port }) => port === host.address.socket_address.port_value)!.name;
        return [name, host.health_status];
      }),
    );
  }

  /** Counters and gauges of the cluster that are not 0, without its name. */
  async stats(filter: RegExp): Promise<Record<string, number>> {
    const text = await this.proxy.admin("/stats?filter=^cluster\\.app\\.");
    const lines = [...text.matchAll(/^cluster\.app\.(\S+): (\d+)$/gm)].map((match) => [match[1]!, Number(match[2])] as const);
    return Object.fromEntries(lines.filter(([name, value]) => value !== 0 && filter.test(name)));
  }

  /** Lines of an event log, without what differs from one run to the next. */
  events(file: string): unknown[] {
    let text = "";
    try {
      text = readFileSync(join(this.#directory, file), "utf8");
    } catch {
      // Nothing has happened yet.
    }
    for (const { name, port } of this.#upstreams)
      text = text.replaceAll(`127.0.0.1:${port}`, name).replaceAll(`"port_value":${port}`, `"port_value":"${name}"`);
    // Fields that are newer than our protos.
    text = text.replaceAll(/,?"(network_namespace_filepath|http_status_code)":(""|\d+)/g, "").replaceAll("{,", "{");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const event = JSON.parse(line) as Record<string, unknown>;
        if (typeof event.timestamp === "string") event.timestamp = event.timestamp.replace(/\d/g, "9").replace(/\.9+/, "");
        if (event.secs_since_last_action) event.secs_since_last_action = "9";
        return event;
      });
  }
}

function isLike(flags: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, text]) => flags[name] === text);
}

interface ClusterJson {
  readonly name: string;
  readonly host_statuses?: readonly {
    readonly address: { readonly socket_address: { readonly port_value: number } };
    readonly health_status: unknown;
  }[];
}

function bootstrap(
  directory: string,
  { cluster, upstreams, endpoint, localities, route, httpFilters = [], port = 0 }: WatchedOptions,
): unknown {
  const lbEndpoint = (upstream: MoodyUpstream) => ({ endpoint: { address: address(upstream.port) }, ...endpoint?.(upstream) });
  const groups = localities ?? [{ upstreams }];
  const log = {
    name: "envoy.access_loggers.file",
    typed_config: {
      "@type": type("access_loggers.file.v3.FileAccessLog"),
      path: join(directory, "access.log"),
      log_format: { text_format_source: { inline_string: "%RESPONSE_FLAGS%\n" } },
    },
  };
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "http",
    access_log: [log],
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "app", ...route } }] }],
    },
    http_filters: [...httpFilters, { name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  const tcp = { "@type": type("filters.network.tcp_proxy.v3.TcpProxy"), stat_prefix: "tcp", cluster: "app" };
  const listener = (name: string, typed_config: object, at = 0) => ({
    name,
    address: address(at),
    filter_chains: [{ filters: [{ name, typed_config }] }],
  });
  return JSON.parse(
    JSON.stringify({
      node: { id: "test", cluster: "test" },
      admin: { address: address(0) },
      cluster_manager: { outlier_detection: { event_log_path: join(directory, "outliers.log") } },
      static_resources: {
        listeners: [listener("http", manager, port), listener("tcp", tcp)],
        clusters: [
          {
            name: "app",
            connect_timeout: "1s",
            ...(!cluster.eds_cluster_config && {
              load_assignment: {
                cluster_name: "app",
                endpoints: groups.map(({ upstreams: members, ...group }) => ({ ...group, lb_endpoints: members.map(lbEndpoint) })),
              },
            }),
            ...cluster,
          },
        ],
      },
    }).replaceAll("%DIR%", directory),
  ) as unknown;
}

/** What each proxy made of it, which must be the same. The moods are those of a, b, c ...: to requests, or to health checks alone. */
export async function watchedByBoth<T>(
  { kind, moods, ...options }: Omit<WatchedOptions, "upstreams"> & { readonly kind: "mood" | "checkMood"; readonly moods: readonly Mood[] },
  run: (cluster: WatchedCluster, upstreams: readonly MoodyUpstream[]) => Promise<T>,
): Promise<T> {
  const [envoys, ours] = await both(
    proxies.map(async ({ start }) => {
      await using stack = new AsyncDisposableStack();
      const upstreams = await Promise.all(moods.map(async (_, index) => stack.use(await MoodyUpstream.start("abcdef"[index]!))));
      for (const [index, mood] of moods.entries()) upstreams[index]![kind] = mood;
      return await run(stack.use(await WatchedCluster.start(start, { ...options, upstreams })), upstreams);
    }),
  );
  expect(ours).toEqual(envoys);
  return ours!;
}

/** Who answers so many requests, and how. */
export async function answersOf(cluster: WatchedCluster, count: number): Promise<string[]> {
  const asked = await cluster.askMany(count);
  return [...new Set(asked.map(({ status, by, flags }) => `${status} ${by || "-"} ${flags}`))].sort();
}
