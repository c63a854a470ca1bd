/** Where retries go: by the next places of a hash table, and to other priorities. Envoy and our proxy on the same file. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { NamedClient, type NamedUpstreams, startNamedUpstreams } from "../support/named-upstreams.ts";
import { address, proxies, type } from "../support/static-bootstrap.ts";

const typed = (name: string, message: string, config: object = {}) => ({ name, typed_config: { "@type": type(message), ...config } });
const otherHosts = {
  retry_host_predicate: [typed("envoy.retry_host_predicates.previous_hosts", "retry.host.previous_hosts.v3.PreviousHostsPredicate")],
  host_selection_retry_max_attempts: 4,
};
const otherPriorities = (update_frequency: number) => ({
  retry_priority: typed("envoy.retry_priorities.previous_priorities", "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", {
    update_frequency,
  }),
});

/** Cluster and retry policy. */
const cases = {
  ring: { cluster: "ring", retry: {} },
  "ring-others": { cluster: "ring", retry: otherHosts },
  maglev: { cluster: "maglev", retry: {} },
  "maglev-others": { cluster: "maglev", retry: otherHosts },
  // One priority is full, so that nothing is drawn.
  "each-attempt": { cluster: "priorities", retry: otherPriorities(1) },
  "every-other-attempt": { cluster: "priorities", retry: otherPriorities(2) },
  "ill-ones-between": { cluster: "ill", retry: otherPriorities(1) },
  "hash-with-priorities": { cluster: "hash-priorities", retry: { ...otherHosts, ...otherPriorities(1) } },
} as const;

const retries = [0, 1, 2, 3, 4, 5];
const users = Array.from({ length: 25 }, (_, index) => `user-${index}`);

function bootstrap({ ports }: NamedUpstreams): object {
  const endpoint = (port: number, health_status = "HEALTHY") => ({ endpoint: { address: address(port) }, health_status });
  const cluster = (name: string, lb_policy: string, endpoints: object[]) => ({
    name,
    type: "STATIC",
    lb_policy,
    circuit_breakers: { thresholds: [{ max_retries: 1000 }] },
    load_assignment: { cluster_name: name, endpoints },
  });
  const all = Object.values(ports);
  const byPriority = (healths: readonly string[]) =>
    healths.map((health, priority) => ({ priority, lb_endpoints: [endpoint(all[priority]!, health)] }));
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "retries",
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: Object.entries(cases).flatMap(([name, { cluster: to, retry }]) =>
            retries.map((num_retries) => ({
              match: { prefix: `/${name}/${num_retries}/` },
              route: {
                cluster: to,
                hash_policy: [{ header: { header_name: "x-user" } }],
                retry_policy: { retry_on: "5xx", num_retries, retry_back_off: { base_interval: "0.001s" }, ...retry },
              },
            })),
          ),
        },
      ],
    },
    http_filters: [typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
  };
  return {
    node: { id: "retries", cluster: "retries" },
    admin: { address: address(0) },
    static_resources: {
      clusters: [
        cluster("ring", "RING_HASH", [{ lb_endpoints: all.map((port) => endpoint(port)) }]),
        cluster("maglev", "MAGLEV", [{ lb_endpoints: all.map((port) => endpoint(port)) }]),
        cluster("priorities", "ROUND_ROBIN", byPriority(["HEALTHY", "HEALTHY", "HEALTHY"])),
        cluster("ill", "ROUND_ROBIN", byPriority(["UNHEALTHY", "HEALTHY", "UNHEALTHY", "DEGRADED"])),
        cluster("hash-priorities", "RING_HASH", byPriority(["HEALTHY", "HEALTHY", "HEALTHY"])),
      ],
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

describe.skipIf(!envoyBinary)("retries, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const clients: NamedClient[] = [];

  beforeAll(async () => {
    const upstreams = stack.use(await startNamedUpstreams(5));
    for (const { start } of proxies) {
      const proxy = stack.use(await start(bootstrap(upstreams)));
      clients.push(stack.use(new NamedClient(await proxy.listenerPort("in"))));
    }
  });
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(cases))("%s", async (name) => {
    const asks = retries.flatMap((count) => users.map((user) => ({ path: `/${name}/${count}/fail`, headers: { "x-user": user } })));
    const [envoy, ours] = await Promise.all(clients.map((client) => client.askAll(asks)));
    expect(ours).toEqual(envoy);
    // Every attempt reached somebody.
    expect(envoy!.filter((answer) => !/^e\d503$/.test(answer))).toEqual([]);
  });

  it("goes from priority to priority", async () => {
    for (const client of clients) {
      const last = (name: string) => client.askAll(retries.map((count) => ({ path: `/${name}/${count}/fail` })));
      expect(await last("each-attempt")).toEqual(["e0503", "e1503", "e2503", "e0503", "e1503", "e2503"]);
      expect((await last("every-other-attempt")).slice(0, 4)).toEqual(["e0503", "e0503", "e1503", "e1503"]);
    }
  });
});
