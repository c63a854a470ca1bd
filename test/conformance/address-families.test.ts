/** Which family of addresses a listener takes, and of which a connection comes: Envoy and our proxy by the same bootstrap. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));
const problem = !envoyBinary ? "no Envoy" : hasIpv6 ? undefined : "no IPv6 here";
if (problem) process.stderr.write(`skipped: address families: ${problem}\n`);

const at = (address: string, port: number, more = {}) => ({ socket_address: { address, port_value: port, ...more } });

/** A listener that says nothing but that somebody has it, or what `cluster` has to say. */
function listener(name: string, addresses: readonly object[], cluster: string) {
  const [address, ...others] = addresses;
  const config = { "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix: name, cluster };
  return {
    name,
    address,
    additional_addresses: others.map((other) => ({ address: other })),
    filter_chains: [{ filters: [{ name: "envoy.filters.network.tcp_proxy", typed_config: config }] }],
  };
}

function cluster(name: string, host: string, port: number, upstream_bind_config?: object) {
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: at(host, port) } }] }];
  return { name, connect_timeout: "1s", upstream_bind_config, load_assignment: { cluster_name: name, endpoints } };
}

describe.skipIf(problem !== undefined).each([
  ["Envoy", startRealEnvoy],
  ["Topsail", startOurProxy],
] as const)("%s", (_, start) => {
  const upstreams: Server[] = [];
  let proxy: RunningProxy;

  beforeAll(async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const server = createServer((socket) => socket.on("error", () => undefined).end(`called by ${socket.remoteAddress}`));
      server.listen(0, host);
      await once(server, "listening");
      upstreams.push(server);
    }
    const [v4, v6] = upstreams.map((server) => (server.address() as AddressInfo).port) as [number, number];
    const source = (address: string) => ({ address, port_value: 0 });
    const of = (address: string, ...extra: string[]) => ({
      source_address: source(address),
      extra_source_addresses: extra.map((one) => ({ address: source(one) })),
    });
    proxy = await start({
      admin: { address: at("127.0.0.1", 0) },
      static_resources: {
        listeners: [
          listener("ipv4", [at("0.0.0.0", 0)], "plain"),
          listener("ipv6", [at("::", 0)], "plain"),
          listener("ipv6 and mapped", [at("::", 0, { ipv4_compat: true })], "plain"),
          listener("both", [at("0.0.0.0", 0), at("::", 0)], "plain"),
          listener("from both, to IPv4", [at("127.0.0.1", 0)], "from both, to IPv4"),
          listener("from both, to IPv6", [at("127.0.0.1", 0)], "from both, to IPv6"),
          listener("from IPv4, to IPv6", [at("127.0.0.1", 0)], "from IPv4, to IPv6"),
        ],
        clusters: [
          cluster("plain", "127.0.0.1", v4),
          cluster("from both, to IPv4", "127.0.0.1", v4, of("::1", "127.0.0.6")),
          cluster("from both, to IPv6", "::1", v6, of("127.0.0.6", "::1")),
          cluster("from IPv4, to IPv6", "::1", v6, of("127.0.0.6")),
        ],
      },
    });
  }, 60_000);
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    for (const server of upstreams) server.close();
  });

  /** What came back before the end, or the error's code. */
  const ask = (host: string, port: number) =>
    new Promise<string>((resolve) => {
      let text = "";
      connect(port, host)
        .on("data", (bytes) => {
          text += bytes;
        })
        .on("end", () => resolve(text))
        .on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
    });
  const answers = async (port: number) =>
    (await Promise.all(["127.0.0.1", "::1"].map((host) => ask(host, port)))).map((text) => text.split(" ")[0]);

  it.each([
    ["ipv4", ["called", "ECONNREFUSED"]],
    ["ipv6", ["ECONNREFUSED", "called"]],
    ["ipv6 and mapped", ["called", "called"]],
  ])("listens to %s", async (name, expected) => {
    expect(await answers(await proxy.listenerPort(name))).toEqual(expected);
  });

  it("listens to all addresses of a listener", async () => {
    const lines = (await proxy.admin("/listeners")).split("\n").filter((line) => line.startsWith("both::"));
    expect(lines.map((line) => line.replace(/\d+$/, "PORT")).sort()).toEqual(["both::0.0.0.0:PORT", "both::[::]:PORT"]);
    for (const line of lines) {
      const expected = line.includes("[::]") ? ["ECONNREFUSED", "called"] : ["called", "ECONNREFUSED"];
      expect(await answers(Number(/\d+$/.exec(line)![0]))).toEqual(expected);
    }
  });

  it.each([
    ["from both, to IPv4", "called by 127.0.0.6"],
    ["from both, to IPv6", "called by ::1"],
    ["from IPv4, to IPv6", ""],
  ])("calls %s", async (name, expected) => {
    const answer = await ask("127.0.0.1", await proxy.listenerPort(name));
    expect(answer.replace("ECONNRESET", "")).toBe(expected);
  });
});
