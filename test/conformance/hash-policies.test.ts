/** What of a request decides on its endpoint: Envoy and our proxy on the same file, asked the same. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Hash64, hex } from "../../src/lib/hash64.ts";
import { xxHash64 } from "../../src/lib/xx-hash64.ts";
import { envoyBinary } from "../support/envoy.ts";
import { type NamedAsk, NamedClient, type NamedUpstreams, startNamedUpstreams } from "../support/named-upstreams.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { address, proxies, type } from "../support/static-bootstrap.ts";

const header = (header_name: string, more: object = {}) => ({ header: { header_name, ...more } });
const rewritten = header("x-user", { regex_rewrite: { pattern: { regex: "^([a-z]+)-.*$" }, substitution: "\\1" } });
const cookie = (more: object = {}) => ({ cookie: { name: "session", ...more } });
const sourceIp = { connection_properties: { source_ip: true } };
const query = { query_parameter: { name: "user" } };
const state = { filter_state: { key: "who" } };

/** By first part of the path. */
const routes: Readonly<Record<string, readonly object[]>> = {
  header: [header("X-User")],
  authority: [header(":authority")],
  path: [header(":path")],
  rewritten: [rewritten],
  cookie: [cookie()],
  made: [cookie({ ttl: "90s", path: "/made" })],
  "made-session": [cookie({ ttl: "0s", attributes: [{ name: "SameSite", value: "Strict" }, { name: "Secure" }] })],
  address: [sourceIp],
  query: [query],
  state: [state],
  several: [header("x-user"), query, cookie(), header("x-user")],
  terminal: [{ ...header("x-user"), terminal: true }, query, { ...cookie(), terminal: true }, sourceIp],
  nothing: [{ connection_properties: {} }],
  // Of a kind that has no hash.
  unhashable: [{ filter_state: { key: "plain" } }],
  edited: [header("x-user"), header(":path")],
};

const names = Array.from({ length: 40 }, (_, index) => `${"abcdefgh"[index % 8]}${index}`);
const perName = (asks: (name: string, index: number) => Omit<NamedAsk, "path"> & { query?: string }) => (route: string) =>
  names.map((name, index) => {
    const { query: text = "", ...rest } = asks(name, index);
    return { path: `/${route}/x${text}`, ...rest };
  });

const cases: Readonly<Record<string, (route: string) => NamedAsk[]>> = {
  header: perName((name, index) => ({
    headers: { "x-user": index % 3 === 0 ? [name, "zz", "aa"] : index % 3 === 1 ? ["aa", name, "zz"] : name },
  })),
  authority: perName((name) => ({ headers: { host: `${name}.test` } })),
  path: perName((name) => ({ query: `?${name}` })),
  rewritten: perName((name, index) => ({ headers: { "x-user": index % 2 === 0 ? `${"abc"[index % 3]}-${name}` : `A${name}` } })),
  cookie: perName((name, index) => ({
    headers: {
      cookie: [`session=${name}; session=no`, `other=1;   session="${name}"; x=y`, `session="${name}; session =no`, `x; session=${name} `][
        index % 4
      ]!,
    },
  })),
  address: perName((_, index) => ({ headers: index % 2 ? { "x-forwarded-for": `10.1.${index}.7` } : {}, from: `127.0.0.${index + 1}` })),
  query: perName((name, index) => ({ query: index % 2 ? `?user=${name}%20&user=no` : `?a=b&user=${name}&c` })),
  state: perName((name) => ({ headers: { "x-who": name } })),
  several: perName((name, index) => ({
    query: index % 2 ? `?user=${name}` : "",
    headers: { "x-user": `u${index % 5}`, ...(index % 3 ? { cookie: `session=${index}` } : {}) },
  })),
  terminal: perName((name, index) => ({
    query: `?user=${index % 7}`,
    headers: { ...(index % 2 ? { "x-user": name } : {}), ...(index % 3 ? { cookie: `session=${index}` } : {}) },
    from: `127.0.0.${index + 1}`,
  })),
  // The cluster goes by the query, whatever the route says.
  own: perName((name, index) => ({ query: `?user=${name}`, headers: { "x-user": `u${index % 2}` } })),
  edited: perName((name) => ({ headers: { "x-user": name } })),
};

function bootstrap({ ports }: NamedUpstreams): object {
  const clusterOf = (name: string, policy: object) => ({
    name,
    type: "STATIC",
    ...policy,
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: Object.values(ports).map((port) => ({ endpoint: { address: address(port) } })) }],
    },
  });
  const manager = {
    "@type": type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "hash",
    use_remote_address: true,
    xff_num_trusted_hops: 1,
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          retry_policy: { retry_on: "5xx", num_retries: 2, retry_back_off: { base_interval: "0.001s" } },
          routes: [
            ...Object.entries(routes).map(([name, hash_policy]) => ({
              match: { prefix: `/${name}/` },
              route: { cluster: "ring", hash_policy, ...(name === "edited" ? { prefix_rewrite: "/" } : {}) },
              ...(name === "edited" ? { request_headers_to_add: [{ header: { key: "x-user", value: "same" } }] } : {}),
            })),
            { match: { prefix: "/bounded-ring/" }, route: { cluster: "bounded-ring", hash_policy: routes.header } },
            { match: { prefix: "/bounded-maglev/" }, route: { cluster: "bounded-maglev", hash_policy: routes.header } },
            { match: { prefix: "/own/" }, route: { cluster: "own", hash_policy: routes.header } },
            { match: { prefix: "/spread/" }, route: { cluster: "spread", hash_policy: routes.made } },
          ],
        },
      ],
    },
    http_filters: [
      {
        name: "envoy.filters.http.set_filter_state",
        typed_config: {
          "@type": type("filters.http.set_filter_state.v3.Config"),
          on_request_headers: [
            {
              object_key: "who",
              factory_key: "envoy.hashable_string",
              format_string: { text_format_source: { inline_string: "%REQ(x-who)%" } },
            },
            { object_key: "plain", factory_key: "envoy.string", format_string: { text_format_source: { inline_string: "text" } } },
          ],
        },
      },
      { name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } },
    ],
  };
  const listener = (name: string, filters: object[]) => ({ name, address: address(0), filter_chains: [{ filters }] });
  const tcp = {
    "@type": type("filters.network.tcp_proxy.v3.TcpProxy"),
    stat_prefix: "tcp",
    cluster: "ring",
    hash_policy: [{ source_ip: {} }],
  };
  const tcpByState = { ...tcp, hash_policy: [{ filter_state: { key: "who" } }] };
  const setState = {
    "@type": type("filters.network.set_filter_state.v3.Config"),
    on_new_connection: [
      {
        object_key: "who",
        factory_key: "envoy.hashable_string",
        format_string: { text_format_source: { inline_string: "x%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } },
      },
    ],
  };
  return {
    node: { id: "hash", cluster: "hash" },
    admin: { address: address(0) },
    static_resources: {
      clusters: [
        clusterOf("ring", { lb_policy: "RING_HASH" }),
        clusterOf("spread", { lb_policy: "ROUND_ROBIN" }),
        clusterOf("own", {
          load_balancing_policy: {
            policies: [
              {
                typed_extension_config: {
                  name: "ring",
                  typed_config: {
                    "@type": type("load_balancing_policies.ring_hash.v3.RingHash"),
                    consistent_hashing_lb_config: { hash_policy: [query] },
                  },
                },
              },
            ],
          },
        }),
        clusterOf("bounded-ring", {
          lb_policy: "RING_HASH",
          common_lb_config: { consistent_hashing_lb_config: { hash_balance_factor: 120 } },
        }),
        clusterOf("bounded-maglev", {
          lb_policy: "MAGLEV",
          common_lb_config: { consistent_hashing_lb_config: { hash_balance_factor: 150 } },
        }),
      ],
      listeners: [
        listener("in", [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }]),
        listener("tcp", [{ name: "envoy.filters.network.tcp_proxy", typed_config: tcp }]),
        listener("tcp-state", [
          { name: "envoy.filters.network.set_filter_state", typed_config: setState },
          { name: "envoy.filters.network.tcp_proxy", typed_config: tcpByState },
        ]),
      ],
    },
  };
}

describe.skipIf(!envoyBinary)("hash policies, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const running: { proxy: RunningProxy; client: NamedClient; port: number }[] = [];
  let upstreams: NamedUpstreams;

  beforeAll(async () => {
    upstreams = stack.use(await startNamedUpstreams(6));
    for (const { start } of proxies) {
      const proxy = stack.use(await start(bootstrap(upstreams)));
      const port = await proxy.listenerPort("in");
      running.push({ proxy, client: stack.use(new NamedClient(port)), port });
    }
  });
  afterAll(() => stack.disposeAsync());

  it.each(Object.keys(cases))("%s", async (route) => {
    const asks = cases[route]!(route);
    const [envoy, ours] = await Promise.all(running.map(({ client }) => client.askAll(asks)));
    expect(ours).toEqual(envoy);
    expect(new Set(envoy).size).toBeGreaterThan(1);
  });

  it.each(["nothing", "cookie", "query", "unhashable"])("chooses at random where there is nothing to go by: %s", async (route) => {
    for (const { client } of running) {
      const answers = await client.askAll(names.map(() => ({ path: `/${route}/x` })));
      expect(new Set(answers).size).toBeGreaterThan(2);
    }
  });

  it.each(["tcp", "tcp-state"])("%s: the same client always reaches the same endpoint", async (listener) => {
    const chosen: string[][] = [];
    for (const { proxy } of running) {
      const port = await proxy.listenerPort(listener);
      const answers: string[] = [];
      for (let last = 1; last <= 20; last++) {
        // Two connections.
        for (let i = 0; i < 2; i++) {
          using client = new NamedClient(port);
          answers.push((await client.ask({ path: "/", from: `127.0.0.${last}` })).upstream);
        }
      }
      chosen.push(answers);
    }
    const [envoy, ours] = chosen;
    expect(ours).toEqual(envoy);
    expect(new Set(envoy).size).toBeGreaterThan(1);
  });

  it.each(["made", "made-session"])("makes a cookie of the connection's addresses, which brings the client back: %s", async (route) => {
    const seen: string[][] = [];
    for (const { client, port } of running) {
      for (const path of [`/${route}/x`, `/${route}/fail`]) {
        const first = await client.ask({ path, headers: { "x-forwarded-for": "10.9.8.7" } });
        const hash = new Hash64();
        xxHash64(`${first.localAddress}127.0.0.1:${port}`, hash);
        const value = hex(hash);
        seen.push(first.cookies.map((text) => text.replaceAll(value, "<value>")));
        if (path.endsWith("fail")) continue;
        for (let i = 0; i < 5; i++) {
          const again = await client.ask({ path, headers: { cookie: `session=${value}` } });
          expect([again.upstream, again.cookies]).toEqual([first.upstream, []]);
        }
      }
    }
    // Envoy makes it anew with each retry.
    expect(seen.slice(2)).toEqual(seen.slice(0, 2).map((cookies) => [...new Set(cookies)]));
    expect(seen[0]).toHaveLength(1);
    expect(seen[0]![0]).toContain('session="<value>"');
  });

  it("makes no cookie for a cluster that doesn't choose by hash", async () => {
    for (const { client } of running) expect((await client.ask({ path: "/spread/x" })).cookies).toEqual([]);
  });

  it.each(["bounded-ring", "bounded-maglev"])("%s: who has enough passes on", async (route) => {
    const orders: string[][] = [];
    for (const { proxy, client } of running) {
      const asked: Promise<unknown>[] = [];
      const order: string[] = [];
      const counted = () => Object.entries(upstreams.held).flatMap(([name, { length }]) => Array.from({ length }, () => name));
      // One after the other, and all of them stay under way; a few users ask for most.
      for (let index = 0; index < 40; index++) {
        const before = counted();
        asked.push(client.ask({ path: `/${route}/hold`, headers: { "x-user": index % 4 === 0 ? names[index]! : `few${index % 3}` } }));
        const now = await eventually(() => (counted().length > index ? counted() : undefined), `request ${index} at an upstream`);
        for (const name of before) now.splice(now.indexOf(name), 1);
        order.push(now[0]!);
      }
      const open = await proxy.admin(`/stats?filter=^cluster\\.${route}\\.upstream_rq_active$`);
      expect(open).toContain(": 40");
      upstreams.release();
      await Promise.all(asked);
      orders.push(order);
    }
    const [envoy, ours] = orders;
    expect(ours).toEqual(envoy);
  });
});
