/** Ring and Maglev tables: Envoy and our proxy with the same endpoints send the same request to the same one, every single time. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { type NamedAsk, NamedClient, type NamedUpstreams, startNamedUpstreams } from "../support/named-upstreams.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { address, proxies, type } from "../support/static-bootstrap.ts";

interface Endpoint {
  readonly weight?: number;
  readonly health?: "HEALTHY" | "UNHEALTHY" | "DEGRADED";
  readonly hostname?: string;
  readonly hashKey?: string;
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
  /** Gauges that are expected alike, below `cluster.NAME.`. */
  readonly stats?: readonly string[];
  readonly policy?: object;
}

const ring = { lb_policy: "RING_HASH" };
const maglev = { lb_policy: "MAGLEV" };
const ringStats = ["ring_hash_lb.size", "ring_hash_lb.min_hashes_per_host", "ring_hash_lb.max_hashes_per_host"];
const maglevStats = ["maglev_lb.min_entries_per_host", "maglev_lb.max_entries_per_host"];
const alike: Locality[] = [{ endpoints: [{}, {}, {}, {}, {}] }];
const weighted: Locality[] = [{ endpoints: [{ weight: 1 }, { weight: 7 }, { weight: 2 }, { weight: 3 }, { weight: 100 }] }];
const spilling: Locality[] = [
  { priority: 0, endpoints: [{}, { health: "UNHEALTHY" }] },
  { priority: 1, endpoints: [{ weight: 2 }, {}, {}] },
];
const degraded: Locality[] = [
  { priority: 0, endpoints: [{}, { health: "DEGRADED" }, { health: "UNHEALTHY" }] },
  { priority: 1, endpoints: [{}, { health: "DEGRADED" }] },
];
const inPanic: Locality[] = [
  { endpoints: [{}, { health: "UNHEALTHY" }, { health: "UNHEALTHY" }, { health: "UNHEALTHY" }, { health: "DEGRADED" }] },
];
const zones: Locality[] = [
  { zone: "b", weight: 1, endpoints: [{ weight: 3 }, {}] },
  { zone: "a", weight: 3, endpoints: [{}, { health: "UNHEALTHY" }] },
  { zone: "c", weight: 0, endpoints: [{}] },
];
const named: Locality[] = [{ endpoints: ["v", "w", "x", "y", "z"].map((hostname) => ({ hostname })) }];
const keyed: Locality[] = [{ endpoints: [{ hashKey: "one" }, { hashKey: "two" }, {}, { hashKey: "\u00fcber" }, {}] }];

const byLocality = { common_lb_config: { locality_weighted_lb_config: {} } };

const extension = (name: string, message: string, config: object) => ({
  load_balancing_policy: {
    policies: [
      { typed_extension_config: { name, typed_config: { "@type": type(`load_balancing_policies.${name}.v3.${message}`), ...config } } },
    ],
  },
});

const cases: readonly Case[] = [
  { name: "ring", cluster: ring, localities: alike, stats: ringStats },
  { name: "ring-weighted", cluster: ring, localities: weighted, stats: ringStats },
  {
    name: "ring-small",
    cluster: { ...ring, ring_hash_lb_config: { minimum_ring_size: 7, maximum_ring_size: 23 } },
    localities: weighted,
    stats: ringStats,
  },
  { name: "ring-large", cluster: { ...ring, ring_hash_lb_config: { minimum_ring_size: 5000 } }, localities: alike, stats: ringStats },
  { name: "ring-murmur", cluster: { ...ring, ring_hash_lb_config: { hash_function: "MURMUR_HASH_2" } }, localities: weighted },
  { name: "ring-keys", cluster: ring, localities: keyed },
  { name: "ring-spilling", cluster: ring, localities: spilling, stats: ringStats },
  { name: "ring-degraded", cluster: ring, localities: degraded },
  { name: "ring-panic", cluster: ring, localities: inPanic },
  { name: "ring-zones", cluster: { ...ring, ...byLocality }, localities: zones, stats: ringStats },
  {
    name: "ring-weighted-health",
    cluster: ring,
    localities: [
      { priority: 0, endpoints: [{ weight: 1 }, { weight: 5, health: "UNHEALTHY" }] },
      { priority: 1, endpoints: [{}, {}] },
    ],
    policy: { weighted_priority_health: true },
  },
  {
    name: "ring-extension",
    cluster: extension("ring_hash", "RingHash", {
      minimum_ring_size: 100,
      hash_function: "XX_HASH",
      consistent_hashing_lb_config: { use_hostname_for_hashing: true },
    }),
    localities: named,
    stats: ringStats,
  },
  {
    name: "ring-extension-zones",
    cluster: extension("ring_hash", "RingHash", { hash_function: "MURMUR_HASH_2", locality_weighted_lb_config: {} }),
    localities: zones,
  },
  { name: "maglev", cluster: maglev, localities: alike, stats: maglevStats },
  { name: "maglev-weighted", cluster: maglev, localities: weighted, stats: maglevStats },
  { name: "maglev-small", cluster: { ...maglev, maglev_lb_config: { table_size: 251 } }, localities: weighted, stats: maglevStats },
  {
    name: "maglev-hostnames",
    cluster: extension("maglev", "Maglev", { consistent_hashing_lb_config: { use_hostname_for_hashing: true } }),
    localities: named,
  },
  { name: "maglev-keys", cluster: maglev, localities: keyed },
  { name: "maglev-spilling", cluster: maglev, localities: spilling },
  { name: "maglev-degraded", cluster: maglev, localities: degraded },
  { name: "maglev-panic", cluster: maglev, localities: inPanic },
  { name: "maglev-zones", cluster: { ...maglev, ...byLocality }, localities: zones },
  {
    name: "maglev-extension",
    cluster: extension("maglev", "Maglev", { table_size: 1009, locality_weighted_lb_config: {} }),
    localities: zones,
    stats: maglevStats,
  },
];

/** In the order in which they are listed, the endpoints are e0, e1 ... */
function assignment({ name, localities, policy }: Case, { ports }: NamedUpstreams, without?: number): object {
  let index = 0;
  return {
    "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    cluster_name: name,
    ...(policy ? { policy } : {}),
    endpoints: localities.map(({ zone, weight, priority = 0, endpoints }) => ({
      priority,
      ...(zone ? { locality: { region: "r", zone } } : {}),
      ...(weight ? { load_balancing_weight: weight } : {}),
      lb_endpoints: endpoints.flatMap((one) => {
        const at = index++;
        if (at === without) return [];
        return {
          endpoint: { address: address(ports[`e${at}`]!), ...(one.hostname ? { hostname: one.hostname } : {}) },
          health_status: one.health ?? "HEALTHY",
          ...(one.weight ? { load_balancing_weight: one.weight } : {}),
          ...(one.hashKey ? { metadata: { filter_metadata: { "envoy.lb": { hash_key: one.hashKey } } } } : {}),
        };
      }),
    })),
  };
}

/** To Envoy a file has the endpoints of one cluster. */
const fileOf = (directory: string, cluster: string) => join(directory, `${cluster}.json`);

function bootstrap(directory: string): object {
  const routes = cases.map(({ name }) => ({
    match: { prefix: `/${name}/` },
    route: { cluster: name, hash_policy: [{ header: { header_name: "x-user" } }] },
  }));
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "hash",
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return {
    node: { id: "hash", cluster: "hash" },
    admin: { address: address(0) },
    static_resources: {
      clusters: cases.map(({ name, cluster }) => ({
        name,
        type: "EDS",
        eds_cluster_config: { eds_config: { path_config_source: { path: fileOf(directory, name) }, resource_api_version: "V3" } },
        ...cluster,
      })),
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

const users = Array.from({ length: 250 }, (_, index) => `user-${index}-${(index * 7919).toString(36)}`);
const asksOf = ({ name }: Case): NamedAsk[] => users.map((user) => ({ path: `/${name}/x`, headers: { "x-user": user } }));

/** The first few, for a message that can be read. */
function differing(envoy: readonly string[], ours: readonly string[]): string[] {
  const all = users.flatMap((user, index) => (envoy[index] === ours[index] ? [] : `${user}: ${ours[index]} instead of ${envoy[index]}`));
  return all.length > 5 ? [...all.slice(0, 5), `${all.length} of ${users.length}`] : all;
}

describe.skipIf(!envoyBinary)("tables of endpoints, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const running: { proxy: RunningProxy; client: NamedClient; directory: string }[] = [];
  let upstreams: NamedUpstreams;

  const write = (directory: string, without?: number) => {
    for (const one of cases) {
      const file = fileOf(directory, one.name);
      const resources = [assignment(one, upstreams, without)];
      writeFileSync(`${file}.new`, JSON.stringify({ version_info: String(without ?? "all"), resources }));
      renameSync(`${file}.new`, file);
    }
  };

  beforeAll(async () => {
    upstreams = stack.use(await startNamedUpstreams(5));
    for (const { name, start } of proxies) {
      const directory = mkdtempSync(join(tmpdir(), `topsail-hash-${name}-`));
      stack.defer(() => rmSync(directory, { recursive: true, force: true }));
      write(directory);
      const proxy = stack.use(await start(bootstrap(directory)));
      const client = stack.use(new NamedClient(await proxy.listenerPort("in")));
      running.push({ proxy, client, directory });
    }
  });
  afterAll(() => stack.disposeAsync());

  const chosen = (one: Case) => Promise.all(running.map(({ client }) => client.askAll(asksOf(one))));
  const statsOf = async (proxy: RunningProxy, { name, stats = [] }: Case) => {
    const text = await proxy.admin(`/stats?filter=^cluster\\.${name}\\.(ring_hash|maglev)_lb`);
    return stats.map((stat) => text.split("\n").find((line) => line.startsWith(`cluster.${name}.${stat}:`)) ?? `no ${stat}`);
  };

  it.each(cases)("$name", async (one) => {
    const [envoy, ours] = await chosen(one);
    expect(differing(envoy!, ours!)).toEqual([]);
    expect(new Set(envoy).size).toBeGreaterThan(1);
    const [stats, ourStats] = await Promise.all(running.map(({ proxy }) => statsOf(proxy, one)));
    expect(ourStats).toEqual(stats);
    expect(stats!.filter((line) => line.startsWith("no "))).toEqual([]);
  });

  it("sends everybody where Envoy does when an endpoint has left, and most of them where they were", async () => {
    const before = await running[0]!.client.askAll(asksOf(cases[0]!));
    for (const { directory } of running) write(directory, 2);
    for (const { proxy } of running) {
      await eventually(async () => {
        const text = await proxy.admin("/stats?filter=membership_total");
        const left = cases.map(({ name, localities }) => {
          const total = localities.reduce((sum, { endpoints }) => sum + endpoints.length, -1);
          return text.includes(`cluster.${name}.membership_total: ${total}\n`);
        });
        return left.every(Boolean) || undefined;
      }, `an endpoint less in all clusters of ${proxy.name}`);
    }
    for (const one of cases) {
      const [envoy, ours] = await chosen(one);
      expect(differing(envoy!, ours!), one.name).toEqual([]);
    }
    const after = await running[0]!.client.askAll(asksOf(cases[0]!));
    const moved = before.filter((upstream, index) => upstream !== "e2" && upstream !== after[index]);
    // The others have more places of the ring now.
    expect(moved.length).toBeLessThan(users.length / 3);
  });
});
