/** The PROXY protocol in front of a listener: what is taken, what is refused, and whose address counts afterwards, as with Envoy. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expandBootstrap, type ShortBootstrap } from "../support/bootstrap-text.ts";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { parseResponses, RawConnection } from "../support/raw-client.ts";
import { expectedOf } from "./known-differences.ts";
import { type ProxyHeaderCase, proxyHeaderCases } from "./proxy-protocol-cases.ts";

interface Result {
  readonly outcome: string;
  /** What the proxy told of the connection, in headers. */
  readonly seen: readonly string[];
}

/** How long a connection is watched that is said to wait. A wrong answer that comes later is missed, not a right one. */
const watchMs = 400;
const atOnce = 12;

const shown = {
  "x-remote": "%DOWNSTREAM_REMOTE_ADDRESS%",
  "x-local": "%DOWNSTREAM_LOCAL_ADDRESS%",
  "x-direct-remote": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
  "x-direct-local": "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS%",
  "x-metadata": "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol)%",
};

const rules = [
  { tlv_type: 0xea, on_tlv_present: { key: "vpce" } },
  { tlv_type: 0x02, on_tlv_present: { key: "authority", metadata_namespace: "own.space" } },
];

function bootstrap(): Record<string, unknown> {
  const headers = Object.entries(shown).map(([key, value]) => ({ header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" }));
  const listener = (name: string, fields: object) => ({
    name,
    listener_filters: [{ name: "envoy.filters.listener.proxy_protocol", typed_config: { "@type": "ProxyProtocol", ...fields } }],
    stat_prefix: name,
  });
  const short: ShortBootstrap = {
    hcm: { http_protocol_options: { allow_custom_methods: false } },
    routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "in" } }, response_headers_to_add: headers }],
    listeners: [
      listener("strict", { rules }),
      listener("lenient", { rules, allow_requests_without_proxy_protocol: true, stat_prefix: "lenient" }),
      listener("only-v1", { disallowed_versions: ["V2"] }),
      listener("only-v2", { disallowed_versions: ["V1"] }),
      listener("lenient-v1", { disallowed_versions: ["V2"], allow_requests_without_proxy_protocol: true }),
    ],
  };
  return expandBootstrap({ ...short, listeners: short.listeners!.map((one) => ({ ...one, filter_chains: [httpChain(short)] })) });
}

function httpChain(short: ShortBootstrap): unknown {
  const [main] = (
    expandBootstrap({ ...short, listeners: [{ name: "main" }] }) as { static_resources: { listeners: { filter_chains: unknown[] }[] } }
  ).static_resources.listeners;
  return main!.filter_chains[0];
}

async function send(port: number, one: ProxyHeaderCase): Promise<Result> {
  using connection = await RawConnection.open(port);
  let wasReset = false;
  connection.socket.on("error", (error: NodeJS.ErrnoException) => {
    wasReset = error.code === "ECONNRESET";
  });
  const bytes = one.bytes + (one.isBare ? "" : "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  if (one.isSlow) {
    for (const byte of bytes) {
      connection.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
  } else connection.write(bytes);
  if (one.ends) connection.socket.end();
  const parsed = () => parseResponses(connection.received, ["GET"]).responses;
  const isAnswered = () => parsed().some(({ isFramed }) => isFramed);
  await connection.until(isAnswered, one.outcome === "waits" ? watchMs : undefined);
  const [response] = parsed();
  if (response === undefined) return { outcome: connection.isClosed ? (wasReset ? "reset" : "closed") : "waits", seen: [] };
  const ports = new RegExp(`\\b(?:${port}|${connection.socket.localPort})\\b`, "g");
  const told = response.headers.filter(([name]) => name.startsWith("x-"));
  const seen = told.map(([name, value]) => `${name}: ${value.replace(ports, "<port>")}`);
  return { outcome: `accepted ${response.statusLine.split(" ")[1]}`, seen: seen.sort() };
}

interface Side {
  readonly results: readonly Result[];
  readonly stats: readonly string[];
}

async function runSide(start: (bootstrap: unknown) => Promise<RunningProxy>): Promise<Side> {
  await using proxy = await start(bootstrap());
  const results: Result[] = [];
  let next = 0;
  const ports = new Map<string, number>();
  for (const name of ["strict", "lenient", "only-v1", "only-v2", "lenient-v1"]) ports.set(name, await proxy.listenerPort(name));
  const work = async () => {
    while (next < proxyHeaderCases.length) {
      const index = next++;
      const one = proxyHeaderCases[index]!;
      results[index] = await send(ports.get(one.listener ?? "strict")!, one);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  const stats = await eventually(
    async () => {
      const lines = (await proxy.admin("/stats")).split("\n");
      return lines.some((line) => /downstream_pre_cx_active: [1-9]/.test(line)) ? undefined : lines;
    },
    () => `${proxy.name} has seen all clients go`,
  );
  return {
    results,
    stats: stats.filter((line) => /proxy_proto|no_filter_chain|listener_filter/.test(line) && !line.includes(".admin.")).sort(),
  };
}

describe.skipIf(!envoyBinary)("The PROXY protocol, beside Envoy", () => {
  let theirs: Side;
  let ours: Side;

  beforeAll(async () => {
    [theirs, ours] = await Promise.all([runSide(startRealEnvoy), runSide(startOurProxy)]);
  });
  afterAll(() => {
    if (process.env.SHOW_OUTCOMES) {
      process.stdout.write(
        theirs.results.map(({ outcome, seen }, i) => `OUTCOME ${proxyHeaderCases[i]!.name}: ${outcome} ${seen.join(" | ")}\n`).join(""),
      );
      process.stdout.write(`${theirs.stats.join("\n")}\n`);
    }
  });

  it.each(proxyHeaderCases.map((one, index) => [one.name, one, index] as const))("%s", (_, one, index) => {
    expect(theirs.results[index]!.outcome.replace("reset", "closed").split(" ")[0], "Envoy's outcome").toBe(one.outcome);
    expect(ours.results[index]!).toEqual(expectedOf("proxy-protocol", one.name, theirs.results[index]!));
  });

  it("counts the same", () => expect(ours.stats).toEqual(expectedOf("proxy-protocol", "stats", theirs.stats)));
});
