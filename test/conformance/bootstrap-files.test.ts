/**
 * Each file of bootstrap/ runs in Envoy and in our proxy, side by side, and gets the same requests: what the client gets and what the
 * upstreams saw must be the same. How the files are written: test/support/bootstrap-text.ts and exchange.ts.
 *
 * In a file, `{{up}}`, `{{up2}}`, `{{up3}}`, `{{tls-up}}`, `{{tcp}}`, `{{grpc}}`, `{{grpc-tls}}` are ports of upstreams of its own, `{{dead}}` one that refuses,
 * `{{log}}` a file whose lines are compared too, and `{{a.example}}` the path of a certificate's files without `.crt` and `.key`;
 * so are `{{ca}}` and the clients' that it signed, listed below. `{{jwt:...}}` and `{{jwks:...}}` are made from the file's `jwt`
 * (test/support/jwt.ts).
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { expandBootstrap, placeHttp, type ShortBootstrap, withRbacListeners } from "../support/bootstrap-text.ts";
import { makeCertificate, makeClientCertificate, type TestCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { describeSeen, type Exchange, exchange, type Outcome, type RequestSpec } from "../support/exchange.ts";
import { type SeenCall, startGrpcUpstream } from "../support/grpc-upstream.ts";
import { type JwtSpec, makeTokens } from "../support/jwt.ts";
import { maskPort } from "../support/mask.ts";
import { eventually, type RunningProxy, startOurProxy, startRealEnvoy } from "../support/proxies.ts";
import { type Reply, type SeenRequest, startTcpUpstream, startUpstream, type TestUpstream } from "../support/upstream.ts";
import { expectedOf } from "./known-differences.ts";

interface CaseFile extends ShortBootstrap {
  readonly about: string;
  /** Of the access log, where it is not one for each request. */
  readonly log_lines?: number;
  readonly jwt?: JwtSpec;
  /** What the upstreams answer to requests without x-reply, by path. */
  readonly upstream_replies?: Readonly<Record<string, Reply>>;
  /** Connections that end together are logged in any order. */
  readonly log_order?: "any";
  /** Upstreams see headers in any order: Envoy's authorizers get them as a hash table has them. */
  readonly header_order?: "any";
  /** Statistics that match this expression have the same values in the end. */
  readonly stats?: string;
  readonly requests: readonly (string | RequestSpec)[];
}

/** One request's whole effect. */
interface Effect {
  readonly outcomes: Outcome[];
  readonly seen: unknown[];
}

interface Run {
  readonly effects: Effect[];
  readonly logLines: string[];
  readonly stats: string[];
}

const directory = join(import.meta.dirname, "bootstrap");
const files = readdirSync(directory)
  .filter((name) => name.endsWith(".yaml"))
  .sort();

/** Files run a few at a time: most of their time is waiting. */
const atOnce = 3;
const runs = new Map<string, Promise<[theirs: Run, ours: Run]>>();

function startRuns(): void {
  let previous: Promise<unknown>[] = Array.from({ length: atOnce }, () => Promise.resolve());
  for (const name of files) {
    const run = previous[0]!.then(() => Promise.all([runSide(name, startRealEnvoy), runSide(name, startOurProxy)]));
    runs.set(name, run);
    previous = [...previous.slice(1), run.catch(() => {})];
  }
}

const certificates = new Map<string, TestCertificate>();
/** By file: both sides get the same tokens. */
const tokens = new Map<string, Record<string, string>>();
/** Clients by what their certificates say of them. */
const clients: Record<string, { readonly subject: string; readonly names?: readonly string[] }> = {
  alice: { subject: "/", names: ["URI:spiffe://cluster.local/ns/default/sa/alice"] },
  bob: {
    subject: "/O=Org/CN=bob",
    names: ["URI:spiffe://old.domain/ns/other/sa/bob", "URI:spiffe://cluster.local/ns/other/sa/bob", "DNS:bob.example", "DNS:bob2.example"],
  },
  carol: { subject: "/CN=carol", names: ["DNS:carol.example", "email:carol@example.com"] },
  dave: { subject: "/C=DE/O=Org, Inc/OU=a;b/CN=dave" },
};

beforeAll(() => {
  const issuer = makeCertificate("ca.example");
  certificates.set("ca", issuer);
  for (const [name, client] of Object.entries(clients)) certificates.set(name, makeClientCertificate({ ...client, issuer }));
  for (const name of ["a.example", "b.example", "wild.example"]) {
    certificates.set(name, name === "wild.example" ? makeCertificate("*.wild.example") : makeCertificate(name));
  }
  for (const name of files) {
    const { jwt } = readCase(name, {});
    if (jwt) tokens.set(name, makeTokens(jwt));
  }
  startRuns();
});
afterAll(() => Promise.allSettled(runs.values()));

/** With ports of 0 where this side's real ones are to be. */
function readCase(name: string, values: Record<string, string>): CaseFile {
  const text = readFileSync(join(directory, name), "utf8");
  const fill = (written: string) => written.replace(/\{\{([\w.:-]+)\}\}/g, (all, key: string) => values[key] ?? all);
  // Key sets hold quotes, so they are filled in when the text is read; the others may stand anywhere in it.
  const filled = text.replace(/\{\{[\w.-]+\}\}/g, fill);
  return parse(filled, (_key, value: unknown) => (typeof value === "string" ? fill(value) : value)) as CaseFile;
}

const labelOf = (request: string | RequestSpec, index: number) => {
  const { line = "", host, raw, headers, tls, listener } = typeof request === "string" ? { line: request } : (request as RequestSpec);
  const more = [listener && `listener ${listener}`, host && `host ${host}`, headers && JSON.stringify(headers), tls && JSON.stringify(tls)]
    .filter(Boolean)
    .join(", ");
  return `${index}: ${(raw === undefined ? line || "GET /" : JSON.stringify(raw)).slice(0, 80)}${more && `, ${more}`.slice(0, 100)}`;
};

async function runSide(name: string, start: (bootstrap: unknown) => Promise<RunningProxy>): Promise<Run> {
  await using parts = new AsyncDisposableStack();
  const workDirectory = mkdtempSync(join(tmpdir(), "topsail-case-"));
  parts.defer(() => rmSync(workDirectory, { recursive: true, force: true }));
  for (const [host, { certificate, key }] of certificates) {
    writeFileSync(join(workDirectory, `${host}.crt`), certificate);
    writeFileSync(join(workDirectory, `${host}.key`), key);
  }
  const serverTls = certificates.get("a.example")!;
  const { upstream_replies: replies } = readCase(name, tokens.get(name) ?? {});
  const upstreams: TestUpstream[] = [
    parts.use(await startUpstream("up", undefined, replies)),
    parts.use(await startUpstream("up2", undefined, replies)),
    parts.use(await startUpstream("up3", undefined, replies)),
    parts.use(await startUpstream("tls-up", { key: serverTls.key, cert: serverTls.certificate }, replies)),
  ];
  const tcp = parts.use(await startTcpUpstream());
  const grpc = parts.use(await startGrpcUpstream());
  const grpcTls = parts.use(await startGrpcUpstream({ key: serverTls.key, cert: serverTls.certificate }));
  const values: Record<string, string> = {
    ...tokens.get(name),
    dead: "1",
    tcp: String(tcp.port),
    grpc: String(grpc.port),
    "grpc-tls": String(grpcTls.port),
    log: join(workDirectory, "access.log"),
  };
  for (const upstream of upstreams) values[upstream.name] = String(upstream.port);
  for (const host of certificates.keys()) values[host] = join(workDirectory, host);
  const file = withRbacListeners(readCase(name, values));
  const clusters = file.clusters ?? {};
  const proxy = parts.use(
    await start(expandBootstrap(placeHttp({ ...file, clusters: { up: { endpoints: [upstreams[0]!.port] }, ...clusters } }))),
  );
  const ports = new Map<string, number>();
  for (const { name: listener } of (file.listeners ?? [{ name: "main" }]) as { name: string }[]) {
    ports.set(listener, await proxy.listenerPort(listener));
  }
  const known: [string, string][] = [...ports].map(([listener, port]) => [String(port), `<port of ${listener}>`]);
  for (const upstream of upstreams) known.push([String(upstream.port), `<port of ${upstream.name}>`]);
  known.push([values.tcp!, "<port of tcp>"], [workDirectory, "<directory>"]);
  const mask = (text: string) =>
    known.reduce((masked, [value, word]) => (/^\d+$/.test(value) ? maskPort(masked, value, word) : masked.replaceAll(value, word)), text);

  const describe = (request: SeenRequest) => {
    const described = describeSeen(request, mask);
    return file.header_order === "any" ? { ...described, headers: described.headers.toSorted() } : described;
  };

  const effects: Effect[] = [];
  const open: [Outcome, Exchange][] = [];
  for (const [index, request] of file.requests.entries()) {
    const given = typeof request === "string" ? { line: request } : request;
    const port = ports.get(given.listener ?? ports.keys().next().value!)!;
    const spec = JSON.parse(JSON.stringify(given).replaceAll("{{port}}", String(port))) as RequestSpec;
    const before = upstreams.map(({ seen }) => seen.length);
    const tcpBefore = tcp.received.length;
    const grpcBefore = [grpc, grpcTls].map((service) => service.seen.length);
    const exchanges: Exchange[] = [];
    if (spec.parallel) {
      exchanges.push(...(await Promise.all(Array.from({ length: spec.parallel }, () => exchange(port, spec, String(index), mask)))));
    } else {
      for (let i = 0; i < (spec.repeat ?? 1); i++) exchanges.push(await exchange(port, spec, String(index), mask));
    }
    for (const one of exchanges) open.push([one.outcome, one]);
    const callsSince = () => [grpc, grpcTls].reduce((count, { seen }, which) => count + seen.length - grpcBefore[which]!, 0);
    if (spec.calls) await eventually(() => (callsSince() >= spec.calls! ? true : undefined), `${spec.calls} gRPC calls`);
    const arrived = () => upstreams.reduce((count, upstream, which) => count + upstream.seen.length - before[which]!, 0);
    if (spec.arrivals) await eventually(() => (arrived() >= spec.arrivals! ? true : undefined), `${spec.arrivals} requests to upstreams`);
    const seen = upstreams.flatMap((upstream, which) =>
      upstream.seen.slice(before[which]).map((request) => ({ upstream: upstream.name, request: describe(request) })),
    );
    const calls = [grpc, grpcTls].flatMap((service, which) =>
      service.seen.slice(grpcBefore[which]).map((call) => describeCall(call, mask)),
    );
    effects.push({ outcomes: exchanges.map(({ outcome }) => outcome), seen: [...seen, ...tcp.received.slice(tcpBefore), ...calls] });
  }
  // A connection that should have stayed open had until now to be closed by mistake.
  for (const [outcome, { connection }] of open) {
    if (!connection) continue;
    outcome.connection = connection.isClosed ? "close" : "open";
    connection[Symbol.dispose]();
  }
  // The log tells that connections have ended, so that what is counted then has been.
  const logLines = await readLog(values.log!, file, mask);
  if (JSON.stringify(file).includes("request_mirror_policies")) await noneActive(proxy);
  const stats = file.stats === undefined ? "" : await proxy.admin(`/stats?filter=${encodeURIComponent(file.stats)}`);
  return { effects, logLines, stats: stats.split("\n").filter(Boolean).sort() };
}

/** For what is mirrored nobody waits: it may be under way when the request has been answered. */
async function noneActive(proxy: RunningProxy): Promise<void> {
  await eventually(async () => {
    const lines = (await proxy.admin("/stats?filter=upstream_rq_active")).split("\n").filter(Boolean);
    return lines.every((line) => line.endsWith(": 0")) || undefined;
  }, "the end of all requests to upstreams");
}

/** Line by line, fields sorted, without what is never twice the same. */
function describeCall(call: SeenCall, mask: (text: string) => string): string[] {
  const sorted = (_key: string, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value;
  return mask(JSON.stringify(call, sorted, 1))
    .replace(/"(time|id)": "[^"]+"/g, '"$1": "<$1>"')
    .replace(/"portValue": \d+/g, '"portValue": <client>')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<uuid>")
    .split("\n");
}

async function readLog(path: string, file: CaseFile, mask: (text: string) => string): Promise<string[]> {
  if (!JSON.stringify(file).includes(path)) return [];
  const expected = file.log_lines ?? file.requests.length;
  const lines = await eventually(() => {
    try {
      const read = readFileSync(path, "utf8").split("\n").slice(0, -1);
      return read.length >= expected ? read : undefined;
    } catch {
      return undefined;
    }
  }, `${expected} lines in the access log`);
  const masked = lines.map((line) =>
    mask(line)
      .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z/g, "<time>")
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<uuid>")
      .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:<client>")
      .replace(/(ms|MS|duration|time)(["=:]+ ?"?)\d+/g, "$1$2<n>"),
  );
  return file.log_order === "any" ? masked.sort() : masked;
}

/** Of requests that are repeated only what can happen counts, not how often: both sides draw their own random numbers. */
function comparable({ outcomes, seen }: Effect, request: string | RequestSpec): unknown {
  const spec = typeof request === "string" ? {} : request;
  if (!spec.repeat && !spec.parallel) return { outcome: outcomes[0], seen };
  const texts = outcomes.map((outcome) => JSON.stringify(outcome)).sort();
  if (spec.parallel) return { texts, upstreams: seen.length };
  return { texts: [...new Set(texts)], seen: [...new Set(seen.map((one) => JSON.stringify(one)))].sort() };
}

describe.skipIf(!envoyBinary)("Bootstrap files, beside Envoy", () => {
  it("are at least thirty", () => expect(files.length).toBeGreaterThanOrEqual(30));

  describe.each(files)("%s", (name) => {
    const { requests, stats: counts } = readCase(name, {});
    let theirs: Run;
    let ours: Run;

    beforeAll(async () => {
      [theirs, ours] = await runs.get(name)!;
    });

    it.each(requests.map((request, index) => [labelOf(request, index), index] as const))("%s", (_, index) => {
      const request = requests[index]!;
      expect(comparable(ours.effects[index]!, request)).toEqual(expectedOf(name, index, comparable(theirs.effects[index]!, request)));
    });

    it("writes the same access log", () => expect(ours.logLines).toEqual(expectedOf(name, "log", theirs.logLines)));

    if (counts !== undefined) it("counts the same", () => expect(ours.stats).toEqual(expectedOf(name, "stats", theirs.stats)));
  });
});
