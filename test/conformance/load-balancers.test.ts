/** Who gets how much by ROUND_ROBIN, LEAST_REQUEST and RANDOM, their options, localities and panic: Envoy and our proxy on the same file. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { NamedClient, type NamedUpstreams, startNamedUpstreams } from "../support/named-upstreams.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { address, proxies, type } from "../support/static-bootstrap.ts";

interface Endpoint {
  readonly weight?: number;
  readonly health?: "UNHEALTHY" | "DEGRADED";
}

interface Locality {
  readonly zone?: string;
  readonly weight?: number;
  readonly priority?: number;
  readonly endpoints: readonly Endpoint[];
}

interface Case {
  readonly name: string;
  readonly cluster: object;
  readonly localities: readonly Locality[];
  /** Of 400 requests one after the other, by endpoint: at most so many more or less. */
  readonly expected: Readonly<Record<string, number>>;
  readonly tolerance: number;
}

const policy = (name: string, message: string, config: object) => ({
  load_balancing_policy: {
    policies: [
      { typed_extension_config: { name, typed_config: { "@type": type(`load_balancing_policies.${name}.v3.${message}`), ...config } } },
    ],
  },
});
const weighsLocalities = { locality_lb_config: { locality_weighted_lb_config: {} } };

const zones: Locality[] = [
  { zone: "a", weight: 1, endpoints: [{}] },
  { zone: "b", weight: 3, endpoints: [{}, { weight: 2 }] },
];
const halfIll: Locality[] = [
  { zone: "a", weight: 1, endpoints: [{}, { health: "UNHEALTHY" }] },
  { zone: "b", weight: 1, endpoints: [{}, {}] },
];
const spilling: Locality[] = [
  { priority: 0, endpoints: [{}, { health: "UNHEALTHY" }, { health: "DEGRADED" }] },
  { priority: 1, endpoints: [{}] },
];

const cases: readonly Case[] = [
  {
    name: "turns",
    cluster: { lb_policy: "ROUND_ROBIN" },
    localities: [{ endpoints: [{}, {}, {}] }],
    expected: { e0: 133, e1: 133, e2: 133 },
    tolerance: 1,
  },
  {
    name: "turns-by-weight",
    cluster: policy("round_robin", "RoundRobin", {}),
    localities: [{ endpoints: [{ weight: 1 }, { weight: 3 }, { weight: 4 }] }],
    expected: { e0: 50, e1: 150, e2: 200 },
    tolerance: 2,
  },
  {
    name: "turns-by-zone",
    cluster: policy("round_robin", "RoundRobin", weighsLocalities),
    localities: zones,
    expected: { e0: 100, e1: 100, e2: 200 },
    tolerance: 2,
  },
  {
    // 1.4 times half of its endpoints.
    name: "turns-by-health",
    cluster: { lb_policy: "ROUND_ROBIN", common_lb_config: { locality_weighted_lb_config: {} } },
    localities: halfIll,
    expected: { e0: 165, e2: 118, e3: 118 },
    tolerance: 2,
  },
  {
    name: "no-zone-counts",
    cluster: { lb_policy: "ROUND_ROBIN", common_lb_config: { locality_weighted_lb_config: {} } },
    localities: zones.map(({ weight: _, ...rest }) => rest),
    expected: { e0: 100, e1: 100, e2: 200 },
    tolerance: 2,
  },
  {
    name: "fewest-by-weight",
    cluster: { lb_policy: "LEAST_REQUEST" },
    localities: [{ endpoints: [{ weight: 1 }, { weight: 3 }] }],
    expected: { e0: 100, e1: 300 },
    tolerance: 2,
  },
  {
    name: "fewest-by-zone",
    cluster: policy("least_request", "LeastRequest", weighsLocalities),
    localities: zones,
    expected: { e0: 100, e1: 100, e2: 200 },
    tolerance: 2,
  },
  {
    // Weights are nothing to it.
    name: "random",
    cluster: policy("random", "Random", {}),
    localities: [{ endpoints: [{ weight: 1 }, { weight: 3 }] }],
    expected: { e0: 200, e1: 200 },
    tolerance: 60,
  },
  {
    name: "panic",
    cluster: { lb_policy: "ROUND_ROBIN", common_lb_config: { locality_weighted_lb_config: {} } },
    localities: [
      { zone: "a", weight: 1, endpoints: [{ health: "UNHEALTHY" }] },
      { zone: "b", weight: 9, endpoints: [{ health: "UNHEALTHY" }, {}, { health: "UNHEALTHY" }] },
    ],
    expected: { e0: 100, e1: 100, e2: 100, e3: 100 },
    tolerance: 2,
  },
  {
    name: "panic-that-fails",
    cluster: policy("round_robin", "RoundRobin", { locality_lb_config: { zone_aware_lb_config: { fail_traffic_on_panic: true } } }),
    localities: [{ endpoints: [{ health: "UNHEALTHY" }, { health: "UNHEALTHY" }, {}] }],
    expected: { "503": 400 },
    tolerance: 0,
  },
  { name: "nobody", cluster: { lb_policy: "ROUND_ROBIN" }, localities: [], expected: { "503": 400 }, tolerance: 0 },
  {
    // 46 % to the first priority, the rest to the healthy ones of the second.
    name: "spilling",
    cluster: { lb_policy: "RANDOM" },
    localities: spilling,
    expected: { e0: 184, e3: 216 },
    tolerance: 60,
  },
];

const held: readonly { readonly name: string; readonly cluster: object; readonly localities: readonly Locality[] }[] = [
  {
    name: "all-are-looked-at",
    cluster: policy("least_request", "LeastRequest", { selection_method: "FULL_SCAN" }),
    localities: [{ endpoints: [{}, {}, {}, {}] }],
  },
  {
    name: "many-are-drawn",
    cluster: { lb_policy: "LEAST_REQUEST", least_request_lb_config: { choice_count: 100 } },
    localities: [{ endpoints: [{}, {}, {}, {}] }],
  },
];

function bootstrap({ ports }: NamedUpstreams): object {
  const all = [...cases, ...held];
  const clusters = all.map(({ name, cluster, localities }) => {
    let index = 0;
    const endpoints = localities.map(({ zone, weight, priority = 0, endpoints: members }) => ({
      priority,
      ...(zone ? { locality: { region: "r", zone } } : {}),
      ...(weight ? { load_balancing_weight: weight } : {}),
      lb_endpoints: members.map((one) => ({
        endpoint: { address: address(ports[`e${index++}`]!) },
        health_status: one.health ?? "HEALTHY",
        ...(one.weight ? { load_balancing_weight: one.weight } : {}),
      })),
    }));
    return { name, type: "STATIC", ...cluster, load_assignment: { cluster_name: name, endpoints } };
  });
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "lb",
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: all.map(({ name }) => ({ match: { prefix: `/${name}/` }, route: { cluster: name } })) },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return {
    node: { id: "lb", cluster: "lb" },
    admin: { address: address(0) },
    static_resources: {
      clusters,
      listeners: [
        {
          name: "in",
          address: address(0),
          filter_chains: [{ filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }] }],
        },
      ],
    },
  };
}

describe.skipIf(!envoyBinary)("load balancers, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const running: { proxy: RunningProxy; client: NamedClient }[] = [];
  let upstreams: NamedUpstreams;

  beforeAll(async () => {
    upstreams = stack.use(await startNamedUpstreams(4));
    for (const { start } of proxies) {
      const proxy = stack.use(await start(bootstrap(upstreams)));
      running.push({ proxy, client: stack.use(new NamedClient(await proxy.listenerPort("in"))) });
    }
  });
  afterAll(() => stack.disposeAsync());

  it.each(cases)("$name", async ({ name, expected, tolerance }) => {
    const panics: string[] = [];
    for (const { proxy, client } of running) {
      const counts: Record<string, number> = {};
      for (let i = 0; i < 400; i++) {
        const { status, upstream } = await client.ask({ path: `/${name}/x` });
        const who = status === 200 ? upstream : String(status);
        counts[who] = (counts[who] ?? 0) + 1;
      }
      expect(Object.keys(counts).sort(), proxy.name).toEqual(Object.keys(expected).sort());
      for (const [who, count] of Object.entries(expected)) {
        const apart = Math.abs(counts[who]! - count);
        expect(apart, `${proxy.name}: ${JSON.stringify(counts)}`).toBeLessThanOrEqual(tolerance);
      }
      panics.push(await proxy.admin(`/stats?filter=^cluster\\.${name}\\.lb_healthy_panic$`));
    }
    expect(panics[1]).toBe(panics[0]);
  });

  it.each(held)("$name: the only idle one gets the next", async ({ name }) => {
    for (const { client } of running) {
      const waiting: Promise<unknown>[] = [];
      const busy = () => Object.values(upstreams.held).filter(({ length }) => length > 0).length;
      // Each goes to one that is idle.
      for (let count = 1; count <= 3; count++) {
        waiting.push(client.ask({ path: `/${name}/hold` }));
        await eventually(() => (busy() === count ? true : undefined), `${count} busy upstreams`);
      }
      const idle = Object.entries(upstreams.held).find(([, { length }]) => length === 0)![0];
      for (let i = 0; i < 20; i++) expect((await client.ask({ path: `/${name}/x` })).upstream).toBe(idle);
      upstreams.release();
      await Promise.all(waiting);
    }
  });
});
