/** A cluster with several health checks, by Envoy and by our proxy: a host is well when all of them find it so, each with numbers of its own. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

interface Answer {
  readonly status: number;
  readonly isDegraded?: boolean;
}

/** What checks are told, and what becomes of the host. */
interface Phase {
  readonly live: Answer;
  readonly ready: Answer;
  readonly request: number;
  readonly flags: string;
  /** Gauges of 1. */
  readonly gauges: readonly string[];
}

const well: Answer = { status: 200 };
const ill: Answer = { status: 503 };
// Envoy's gauge of the check stays 1 when the host is well again; so this comes last.
const degraded: Answer = { status: 200, isDegraded: true };

const phases: readonly Phase[] = [
  {
    live: well,
    ready: well,
    request: 200,
    flags: "healthy",
    gauges: ["healthy", "name.live.healthy", "name.open.healthy", "name.ready.healthy"],
  },
  { live: ill, ready: well, request: 503, flags: "/failed_active_hc", gauges: ["name.open.healthy", "name.ready.healthy"] },
  { live: ill, ready: ill, request: 503, flags: "/failed_active_hc", gauges: ["name.open.healthy"] },
  { live: well, ready: ill, request: 503, flags: "/failed_active_hc", gauges: ["name.live.healthy", "name.open.healthy"] },
  {
    live: degraded,
    ready: well,
    request: 200,
    flags: "/degraded_active_hc",
    gauges: ["degraded", "healthy", "name.live.degraded", "name.live.healthy", "name.open.healthy", "name.ready.healthy"],
  },
];

function bootstrap(port: number, eventLog: string): object {
  const log = {
    name: "envoy.health_check.event_sink.file",
    typed_config: { "@type": type("health_check.event_sinks.file.v3.HealthCheckEventFileSink"), event_log_path: eventLog },
  };
  const common = { timeout: "1s", interval: "0.1s", no_traffic_interval: "0.1s", unhealthy_threshold: 1, healthy_threshold: 1 };
  const health_checks = [
    ...["live", "ready"].map((name) => ({ ...common, name, event_logger: [log], http_health_check: { path: `/${name}` } })),
    { ...common, name: "open", event_logger: [log], tcp_health_check: {} },
  ];
  const http1 = { explicit_http_config: { http_protocol_options: {} } };
  const cluster = staticCluster("up", [port], http1, { health_checks, common_lb_config: { healthy_panic_threshold: { value: 0 } } });
  return httpBootstrap([cluster], {
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up" } }] }] },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  });
}

async function shown(proxy: RunningProxy): Promise<Pick<Phase, "flags" | "gauges" | "request">> {
  const port = await proxy.listenerPort("in");
  const request = await new Promise<number>((resolve) => {
    get({ port, host: "127.0.0.1", path: "/", agent: false }, (response) =>
      response.resume().on("end", () => resolve(response.statusCode!)),
    );
  });
  const stats = await proxy.admin("/stats?filter=health_check.*(healthy|degraded)$");
  const gauges = [...stats.matchAll(/^cluster\.up\.health_check\.(\S+): 1$/gm)].map(([, name]) => name!).sort();
  const flags = /::health_flags::(\S+)/.exec(await proxy.admin("/clusters"))?.[1] ?? "";
  return { request, flags, gauges };
}

async function pass(side: (typeof proxies)[number]): Promise<{ names: string[]; events: string[] }> {
  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-checks-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  let phase = phases[0]!;
  const server = createServer((request, response) => {
    const answer = request.url === "/live" ? phase.live : request.url === "/ready" ? phase.ready : well;
    response.writeHead(answer.status, answer.isDegraded ? { "x-envoy-degraded": "" } : {}).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const log = join(directory, "events");
  const proxy = stack.use(await side.start(bootstrap((server.address() as AddressInfo).port, log)));
  for (const next of phases) {
    phase = next;
    const { request, flags, gauges } = next;
    let last: unknown;
    await eventually(
      async () => {
        last = await shown(proxy);
        return JSON.stringify(last) === JSON.stringify({ request, flags, gauges }) || undefined;
      },
      () => `${side.name}: ${JSON.stringify({ request, flags, gauges })}, but ${JSON.stringify(last)}`,
    );
  }
  const stats = await proxy.admin("/stats?filter=^cluster.up.health_check");
  const names = stats
    .trim()
    .split("\n")
    .map((line) => line.replace(/: .*/, ""));
  // What each check has logged of its own; who is first is a matter of chance.
  const eventNames = () =>
    readFileSync(log, "utf8")
      .trim()
      .split("\n")
      .map((line) => Object.keys(JSON.parse(line) as object).find((key) => key.endsWith("_event") || key.endsWith("_host"))!)
      .sort();
  const events = await eventually(
    () => {
      const all = eventNames();
      return all.includes("degraded_healthy_host") ? all : undefined;
    },
    () => `${side.name} logs ${eventNames().join()}`,
  );
  return { names: names.sort(), events };
}

describe.skipIf(!envoyBinary)("Several health checks of one cluster", () => {
  it("agree as in Envoy", async () => {
    const [envoy, ours] = [await pass(proxies[0]), await pass(proxies[1])];
    expect(ours).toEqual(envoy);
  }, 60_000);
});
