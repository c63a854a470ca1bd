/**
 * Who answers whom, on a small mesh: a service of four endpoints behind an ingress gateway and a sidecar, with consistent hashing by header,
 * cookie and source address. The steps build on each other, as somebody types them.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { istioObject, type Json, LabMesh, labProxies } from "../support/lab-mesh.ts";
import { type NamedAnswer, type NamedAsk, NamedClient, type NamedUpstreams, startNamedUpstreams } from "../support/named-upstreams.ts";
import { eventually } from "../support/proxies.ts";

const users = Array.from({ length: 200 }, (_, index) => `user-${index}`);

describe.each(labProxies)("A mesh that balances its load, run by $name", ({ binaryPath }) => {
  const stack = new AsyncDisposableStack();
  let lab: LabMesh;
  let upstreams: NamedUpstreams;
  let tcpPort: number;

  const endpointsOf = (names: readonly string[]) => names.map((name) => ({ address: "127.0.0.1", ports: portsOf(upstreams.ports[name]!) }));
  const portsOf = (port: number) => ({ http: port, tcp: port });
  const all = ["e0", "e1", "e2", "e3"];

  function serve(names: readonly string[]): void {
    lab.apply(
      "named",
      istioObject("networking", "ServiceEntry", "named", {
        hosts: ["named.test"],
        resolution: "STATIC",
        ports: [
          { number: 80, name: "http", protocol: "HTTP" },
          { number: 81, name: "tcp", protocol: "TCP" },
        ],
        endpoints: endpointsOf(names),
      }),
      istioObject("networking", "Gateway", "bytes", {
        selector: { istio: "ingressgateway" },
        servers: [{ port: { number: tcpPort, name: "bytes", protocol: "TCP" }, hosts: ["*"] }],
      }),
      istioObject("networking", "VirtualService", "named", {
        hosts: ["named.example.com"],
        gateways: ["istio-system/ingress"],
        http: [{ route: [{ destination: { host: "named.test", port: { number: 80 } } }] }],
      }),
      istioObject("networking", "VirtualService", "bytes", {
        hosts: ["*"],
        gateways: ["bytes"],
        tcp: [{ match: [{ port: tcpPort }], route: [{ destination: { host: "named.test", port: { number: 81 } } }] }],
      }),
    );
  }

  const balance = (loadBalancer: Json) =>
    lab.apply("balancing", istioObject("networking", "DestinationRule", "named", { host: "named.test", trafficPolicy: { loadBalancer } }));

  const gateway = () => ({ client: stack.use(new NamedClient(lab.ports.gateway)), host: "named.example.com" });
  const sidecar = () => ({ client: stack.use(new NamedClient(lab.ports.outbound, lab.addressOf("httpbin"))), host: "named.test" });
  type Door = ReturnType<typeof gateway>;

  const ask = ({ client, host }: Door, headers: NamedAsk["headers"] = {}): Promise<NamedAnswer> =>
    client.ask({ path: "/", headers: { host, ...headers } });
  const chosen = ({ client, host }: Door, header = "x-user") =>
    client.askAll(users.map((user) => ({ path: "/", headers: { host, [header]: user } })));

  /** Awaited: the rule is in force, as is shown by the same answers twice. */
  const settled = (door: Door, endpoints: readonly string[], header?: string) =>
    eventually(async () => {
      const [once, again] = [await chosen(door, header), await chosen(door, header)];
      const isWhole = endpoints.every((name) => once.includes(name)) && once.every((name) => endpoints.includes(name));
      return isWhole && String(once) === String(again) ? once : undefined;
    }, `the same endpoint of ${endpoints} for the same user`);

  beforeAll(async () => {
    upstreams = stack.use(await startNamedUpstreams(4));
    lab = stack.use(await LabMesh.start({ network: binaryPath ? 21 : 20, binaryPath, workloads: [{ name: "httpbin" }], concurrency: 2 }));
    tcpPort = lab.ports.admin + 2;
    serve(all);
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  it.each([
    ["a ring", { ringHash: { minimumRingSize: 2048 } }],
    ["a Maglev table", { maglev: { tableSize: 4099 } }],
  ])("keeps a user at an endpoint by a header, with %s", async (_, table) => {
    const header = "maglev" in table ? "x-session" : "x-user";
    balance({ consistentHash: { httpHeaderName: header, ...table } });
    const [atGateway, atSidecar] = [await settled(gateway(), all, header), await settled(sidecar(), all, header)];
    // All proxies have the same table.
    expect(atSidecar).toEqual(atGateway);
    for (const name of all) expect(atGateway.filter((other) => other === name).length).toBeGreaterThan(20);
  });

  it("leaves most users where they are when an endpoint goes, and brings them back", async () => {
    balance({ consistentHash: { httpHeaderName: "x-user" } });
    const door = gateway();
    const before = await settled(door, all);
    serve(all.slice(1));
    const after = await settled(door, all.slice(1));
    const others = users.filter((_user, index) => before[index] !== "e0");
    const stayed = users.filter((_user, index) => before[index] === after[index]);
    expect(stayed.length).toBeGreaterThan(others.length / 2);
    serve(all);
    expect(await settled(door, all)).toEqual(before);
  });

  it("keeps a client at an endpoint by a cookie that the proxy makes", async () => {
    balance({ consistentHash: { httpCookie: { name: "session", ttl: "60s", path: "/" } } });
    const first = await eventually(async () => {
      const answer = await ask(gateway());
      return answer.cookies.length > 0 ? answer : undefined;
    }, "a cookie");
    expect(first.cookies).toEqual([expect.stringMatching(/^session="[0-9a-f]{16}"; Max-Age=60; Path=\/; HttpOnly$/)]);
    const cookie = first.cookies[0]!.split(";")[0]!;
    for (const door of [gateway(), gateway()]) {
      for (let i = 0; i < 10; i++) {
        const again = await ask(door, { cookie });
        expect([again.upstream, again.cookies]).toEqual([first.upstream, []]);
      }
    }
    // Others, with a connection and a cookie of their own each, spread.
    const others = await Promise.all(Array.from({ length: 60 }, () => ask(gateway())));
    expect(new Set(others.map(({ upstream }) => upstream))).toEqual(new Set(all));
  });

  it("keeps a client's connections at an endpoint by its address", async () => {
    balance({ consistentHash: { useSourceIp: true } });
    const addresses = Array.from({ length: 80 }, (_, index) => `127.0.0.${index + 1}`);
    const reached = () =>
      Promise.all(
        addresses.map(async (from) => {
          using client = new NamedClient(tcpPort);
          return (await client.ask({ path: "/", from })).upstream;
        }),
      ).catch(() => undefined);
    const once = await eventually(async () => {
      const [first, second] = [await reached(), await reached()];
      return first && String(first) === String(second) ? first : undefined;
    }, "the same endpoint for the same address");
    expect(new Set(once)).toEqual(new Set(all));
  });

  it("forgets it all with the rule", async () => {
    lab.remove("balancing");
    const door = gateway();
    await eventually(async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(door, { "x-user": "one" })));
      return new Set(answers.map(({ upstream }) => upstream)).size > 1 || undefined;
    }, "several endpoints for one user");
  });
});
