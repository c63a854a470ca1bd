/**
 * Clusters that lose their nameserver under load, by Envoy and by our proxy on the same file: it gets silent, fails, refuses, goes away, or says that
 * there is nothing; then it is back with other addresses. No request fails that Envoy would not fail too.
 */
import { once } from "node:events";
import { Agent, createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { type Asked, DnsUpstream, reply } from "../support/dns-upstream.ts";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { httpBootstrap, proxies, type } from "../support/static-bootstrap.ts";

const clusters = ["strict", "logical"] as const;
type ClusterName = (typeof clusters)[number];

/** What the nameserver does, who answers requests then, and how the proxy counts its questions. */
interface Phase {
  readonly name: string;
  /** null: there is no nameserver. */
  readonly answer: ((asked: Asked) => readonly Buffer[]) | null;
  readonly strict: readonly [counted: "success" | "failure", ...answers: string[]];
  readonly logical: readonly [counted: "success" | "failure", ...answers: string[]];
}

const addresses =
  (...last: number[]) =>
  (asked: Asked) => [reply(asked, { addresses: last.map((number) => `127.0.0.${number}`) })];
const code = (number: number) => (asked: Asked) => [reply(asked, { code: number })];

const first: Phase = { name: "answers", answer: addresses(2, 3), strict: ["success", "e2", "e3"], logical: ["success", "e2"] };
const unchanged = { strict: ["failure", "e2", "e3"], logical: ["failure", "e2"] } as const;

const phases: readonly Phase[] = [
  first,
  { name: "is silent", answer: () => [], ...unchanged },
  { name: "fails", answer: code(2), ...unchanged },
  { name: "refuses", answer: code(5), ...unchanged },
  { name: "is gone", answer: null, ...unchanged },
  { name: "is back with another", answer: addresses(4), strict: ["success", "e4"], logical: ["success", "e4"] },
  { name: "knows no addresses", answer: addresses(), strict: ["success", "503"], logical: ["failure", "e4"] },
  { ...first, name: "knows some again" },
  { name: "knows no such name", answer: code(3), strict: ["success", "503"], logical: ["failure", "e2"] },
  { name: "takes turns", answer: addresses(3, 2), strict: ["success", "e2", "e3"], logical: ["success", "e3"] },
  // Nobody is at the first: another address of the same endpoint does, but not another endpoint.
  { name: "names somebody dead", answer: addresses(9, 2), strict: ["success", "503", "e2"], logical: ["success", "e2"] },
];

function bootstrap(nameserver: number, port: number): object {
  const cluster = (name: ClusterName) => ({
    name,
    type: name === "strict" ? "STRICT_DNS" : "LOGICAL_DNS",
    dns_lookup_family: "V4_ONLY",
    dns_refresh_rate: "0.1s",
    typed_dns_resolver_config: {
      name: "envoy.network.dns_resolver.cares",
      typed_config: {
        "@type": type("network.dns_resolver.cares.v3.CaresDnsResolverConfig"),
        resolvers: [{ socket_address: { address: "127.0.0.1", port_value: nameserver } }],
        dns_resolver_options: { no_default_search_domain: true },
        query_timeout_seconds: 1,
        query_tries: 1,
      },
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: `${name}.test`, port_value: port } } } }] }],
    },
  });
  return httpBootstrap(clusters.map(cluster), {
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: clusters.map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } })) },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  });
}

/** Servers on 127.0.0.2, .3 and .4, at one port; each answers with its name. */
async function startEndpoints(stack: AsyncDisposableStack): Promise<number> {
  let port = 0;
  for (const last of [2, 3, 4]) {
    const server = createServer({ keepAliveTimeout: 600_000 }, (_, response) => setTimeout(() => response.end(`e${last}`), 3));
    server.listen(port, `127.0.0.${last}`);
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
    stack.defer(() => {
      server.closeAllConnections();
      server.close();
    });
  }
  return port;
}

interface Answer {
  readonly cluster: ClusterName;
  readonly startedIn: number;
  readonly endedIn: number;
  /** The endpoint's name, or the proxy's status. */
  readonly answer: string;
}

function ask(port: number, path: string, agent: Agent): Promise<string> {
  return new Promise((resolve) => {
    get({ port, host: "127.0.0.1", path, agent }, (response) => {
      let body = "";
      response
        .setEncoding("latin1")
        .on("data", (text: string) => {
          body += text;
        })
        .on("end", () => resolve(response.statusCode === 200 ? body : String(response.statusCode)));
    }).on("error", (error) => resolve(error.message));
  });
}

async function updates(proxy: RunningProxy): Promise<Record<string, number>> {
  const text = await proxy.admin("/stats?filter=update_(success|failure)$");
  return Object.fromEntries(
    [...text.matchAll(/^cluster\.(\w+)\.update_(\w+): (\d+)$/gm)].map(([, name, what, count]) => [`${name} ${what}`, Number(count)]),
  );
}

async function drill(side: (typeof proxies)[number]): Promise<readonly Answer[]> {
  await using stack = new AsyncDisposableStack();
  const endpoints = await startEndpoints(stack);
  let phase = 0;
  const answerOf = (asked: Asked) => phases[phase]!.answer?.(asked) ?? [];
  let nameserver: DnsUpstream | null = await DnsUpstream.start(answerOf);
  stack.defer(() => nameserver?.[Symbol.asyncDispose]());
  const { port: nameserverPort } = nameserver;
  const proxy = stack.use(await side.start(bootstrap(nameserverPort, endpoints)));
  const port = await proxy.listenerPort("in");
  const agent = new Agent({ keepAlive: true });
  stack.defer(() => agent.destroy());

  const answers: Answer[] = [];
  let isOver = false;
  const client = async (cluster: ClusterName) => {
    while (!isOver) {
      const startedIn = phase;
      const answer = await ask(port, `/${cluster}`, agent);
      answers.push({ cluster, startedIn, endedIn: phase, answer });
    }
  };
  const clients = [...clusters, ...clusters, ...clusters].map(client);

  /** The last requests that began in this phase. */
  const lately = (cluster: ClusterName) => answers.filter((one) => one.cluster === cluster && one.startedIn === phase).slice(-12);
  for (const [index, { name, answer, ...expected }] of phases.entries()) {
    phase = index;
    if (answer === null) {
      await nameserver?.[Symbol.asyncDispose]();
      nameserver = null;
    } else nameserver ??= await DnsUpstream.start(answerOf, "127.0.0.1", nameserverPort);
    const before = await updates(proxy);
    await eventually(
      async () => {
        const now = await updates(proxy);
        const isCounted = clusters.every((cluster) => {
          const key = `${cluster} ${expected[cluster][0]}`;
          return now[key]! - before[key]! >= 3;
        });
        const isAnswered = clusters.every((cluster) => {
          const seen = lately(cluster);
          return seen.length === 12 && [...new Set(seen.map((one) => one.answer))].sort().join() === expected[cluster].slice(1).join();
        });
        return (isCounted && isAnswered) || undefined;
      },
      () =>
        `${side.name}, a nameserver that ${name}: ${JSON.stringify(clusters.map((cluster) => lately(cluster).map((one) => one.answer)))}`,
    );
  }
  isOver = true;
  await Promise.all(clients);
  return answers;
}

describe.skipIf(!envoyBinary)("A nameserver that is lost under load", () => {
  it.each(proxies.map((side) => [side.name, side] as const))(
    "costs %s no request as long as somebody is known",
    async (_, side) => {
      const answers = await drill(side);
      const unexpected = answers.filter(({ cluster, startedIn, endedIn, answer }) => {
        // What the phase before left goes on for a while.
        const possible = phases.slice(Math.max(0, startedIn - 1), endedIn + 1).flatMap((phase) => phase[cluster].slice(1));
        return !possible.includes(answer);
      });
      expect(unexpected).toEqual([]);
      expect(answers.length).toBeGreaterThan(300);
    },
    90_000,
  );
});

describe.skipIf(!envoyBinary)("An endpoint with several addresses", () => {
  it.each(proxies.map((side) => [side.name, side] as const))(
    "is reached by %s where the first of them is dead",
    async (_, side) => {
      await using stack = new AsyncDisposableStack();
      const port = await startEndpoints(stack);
      const at = (last: number) => ({ socket_address: { address: `127.0.0.${last}`, port_value: port } });
      const endpoint = (first: number, ...others: number[]) => ({
        endpoint: { address: at(first), additional_addresses: others.map((last) => ({ address: at(last) })) },
      });
      const cluster = (name: string, lbEndpoint: object) => ({
        name,
        type: "STATIC",
        load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [lbEndpoint] }] },
      });
      const proxy = stack.use(
        await side.start(
          httpBootstrap([cluster("one", endpoint(9)), cluster("two", endpoint(9, 8, 3)), cluster("first", endpoint(2, 3))], {
            route_config: {
              virtual_hosts: [
                {
                  name: "all",
                  domains: ["*"],
                  routes: ["one", "two", "first"].map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } })),
                },
              ],
            },
            http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
          }),
        ),
      );
      const listener = await proxy.listenerPort("in");
      const agent = new Agent();
      stack.defer(() => agent.destroy());
      expect([await ask(listener, "/one", agent), await ask(listener, "/two", agent), await ask(listener, "/first", agent)]).toEqual([
        "503",
        "e3",
        "e2",
      ]);
    },
    30_000,
  );
});
