/** Bytes that are no proper HTTP/1.1: same answers, same end of the connection, and the upstream saw the same requests, as with Envoy. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expandBootstrap, placeHttp } from "../support/bootstrap-text.ts";
import { envoyBinary } from "../support/envoy.ts";
import { describeSeen, maskHeader } from "../support/exchange.ts";
import { type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { parseResponses, RawConnection } from "../support/raw-client.ts";
import { startUpstream, type TestUpstream } from "../support/upstream.ts";
import { expectedOf } from "./known-differences.ts";
import { type MalformedCase, malformedCases } from "./malformed-http1-cases.ts";

interface Result {
  /** As in the table: `400 close`. */
  readonly outcome: string;
  readonly responses: readonly { readonly headers: readonly string[] }[];
  readonly rest: string;
}

interface Side {
  readonly results: Result[];
  readonly upstream: TestUpstream;
  /** Requests that no case can be found for. */
  readonly strays: string[];
}

/** How long a connection is watched that is said to stay silent or open. A wrong answer that comes later is missed, not a right one. */
const watchMs = 400;
const atOnce = 12;

/** Bytes with the case's path in them; `@@` is an at sign. */
function bytesOf({ bytes }: MalformedCase, index: number): string {
  return bytes.replace(/@@|@/g, (found) => (found === "@@" ? "@" : `/c${index}`));
}

function methodsOf(bytes: string): string[] {
  return [...bytes.matchAll(/(?:^|\n|ab)([A-Z]+) [^\r\n]* HTTP\/1\.1\r\n/g)].map(([, method]) => method!);
}

async function send(port: number, one: MalformedCase, index: number): Promise<Result> {
  using connection = await RawConnection.open(port);
  const bytes = bytesOf(one, index);
  if (one.how === "bytewise") {
    for (const byte of bytes) {
      if (connection.isClosed) break;
      connection.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
  } else connection.write(bytes);
  if (one.how === "fin") connection.socket.end();
  const wanted = one.outcome.split(" ");
  const end = wanted.pop();
  const methods = methodsOf(bytes);
  const parsed = () => parseResponses(connection.received, methods);
  const isFramed = () => parsed().responses.filter((response) => response.isFramed).length >= wanted.length;
  if (wanted.length > 0) await connection.until(isFramed);
  if (end === "close") await connection.closes();
  else await connection.until(() => false, watchMs);
  const { responses, rest } = parsed();
  const statuses = responses.map(({ statusLine }) => statusLine.split(" ")[1]);
  return {
    outcome: [...statuses, connection.isClosed ? "close" : statuses.length === 0 ? "silent" : "open"].join(" "),
    responses: responses.map(({ statusLine, headers, body, isFramed }) => ({
      statusLine,
      headers: headers.map(([name, value]) => maskHeader(name, value, (text) => text)),
      body,
      isFramed,
    })),
    rest,
  };
}

async function runSide(start: (bootstrap: unknown) => Promise<RunningProxy>): Promise<Side> {
  await using parts = new AsyncDisposableStack();
  const upstream = parts.use(await startUpstream());
  const route = { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "up" } }] };
  const lenient = {
    "@type": "HttpConnectionManager",
    stat_prefix: "lenient",
    http_protocol_options: { accept_http_10: true, allow_chunked_length: true },
    route_config: { virtual_hosts: [route] },
    http_filters: [{ name: "router", typed_config: { "@type": "Router" } }],
  };
  const bootstrap = expandBootstrap(
    placeHttp({
      clusters: { up: { endpoints: [upstream.port], circuit_breakers: { thresholds: [{ max_connections: 1000 }] } } },
      listeners: [
        { name: "strict", filter_chains: [{ filters: [{ http: {} }] }] },
        { name: "lenient", filter_chains: [{ filters: [{ name: "hcm", typed_config: lenient }] }] },
      ],
    }),
  );
  const proxy = parts.use(await start(bootstrap));
  const ports = { strict: await proxy.listenerPort("strict"), lenient: await proxy.listenerPort("lenient") };
  const results: Result[] = [];
  let next = 0;
  const work = async () => {
    while (next < malformedCases.length) {
      const index = next++;
      const one = malformedCases[index]!;
      results[index] = await send(ports[one.listener ?? "strict"], one, index);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  const strays = upstream.seen.map(({ method, path }) => `${method} ${path}`).filter((line) => !/ \/c\d/.test(line));
  return { results, upstream, strays: strays.sort() };
}

function seenOf({ upstream }: Side, index: number): unknown[] {
  const path = new RegExp(`^/c${index}(?!\\d)`);
  return upstream.seen.filter((request) => path.test(request.path)).map((request) => describeSeen(request, (text) => text));
}

describe.skipIf(!envoyBinary)("Malformed HTTP/1.1, beside Envoy", () => {
  let theirs: Side;
  let ours: Side;

  beforeAll(async () => {
    [theirs, ours] = await Promise.all([runSide(startRealEnvoy), runSide(startOurProxy)]);
  });
  afterAll(() => {
    if (process.env.SHOW_OUTCOMES) process.stdout.write(theirs.results.map(({ outcome }, i) => `OUTCOME ${i} ${outcome}\n`).join(""));
  });

  it("has at least sixty cases", () => expect(malformedCases.length).toBeGreaterThanOrEqual(60));

  it.each(malformedCases.map((one, index) => [one.name, one, index] as const))("%s", (name, one, index) => {
    expect(theirs.results[index]!.outcome, "Envoy's outcome").toBe(one.outcome);
    expect(ours.results[index]!).toEqual(expectedOf("malformed-http1", name, theirs.results[index]!));
    const [seenByTheirs, seenByOurs] = [seenOf(theirs, index), seenOf(ours, index)];
    if (one.atMost === undefined) expect(seenByOurs).toEqual(seenByTheirs);
    else expect(seenByOurs.length).toBeLessThanOrEqual(one.atMost);
    // One reading: every request that went on has an answer of its own, and none came of bytes within another.
    const { responses } = ours.results[index]!;
    const passedOn = responses.filter(({ headers }) => headers.some((line) => line.startsWith("x-envoy-upstream-service-time"))).length;
    if (one.atMost === undefined) expect(seenByOurs.length).toBe(passedOn);
  });

  it("makes no request of anything else", () => expect(ours.strays).toEqual(theirs.strays));
});
