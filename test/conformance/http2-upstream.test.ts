/** HTTP/2 towards upstreams: Envoy and our proxy on the same file, by clients of both protocols, the answers and what the upstream saw side by side. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request as requestHttp1 } from "node:http";
import * as http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { envoyBinary } from "../support/envoy.ts";
import { askHttp2 } from "../support/http2-ask.ts";
import { digest, entries, Http2Upstream } from "../support/http2-upstream.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { fileLog, httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

const certificate = makeCertificate("h2.test");
const logFormat =
  "%REQ(X-CASE)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_PROTOCOL% %BYTES_RECEIVED% %BYTES_SENT% %GRPC_STATUS%\n";

const explicit = { explicit_http_config: { http2_protocol_options: {} } };
/** By route prefix: what the cluster is told, whether in TLS, and what the upstream there agrees to. */
const clusters = {
  h2: { options: explicit, upstream: "plain" },
  downstream: { options: { use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} } }, upstream: "plain" },
  "h2-tls": { options: explicit, upstream: "tls", tls: { alpn_protocols: ["h2"] } },
  "h2-tls-unsaid": { options: explicit, upstream: "tls", tls: {} },
  "h1-tls-unsaid": { options: { explicit_http_config: { http_protocol_options: {} } }, upstream: "tls", tls: {} },
  auto: { options: { auto_config: {} }, upstream: "tls", tls: {} },
  "auto-h1": { options: { auto_config: {} }, upstream: "tls-h1", tls: {} },
  bearing: {
    options: { explicit_http_config: { http2_protocol_options: { override_stream_error_on_invalid_http_message: true } } },
    upstream: "plain",
  },
} as const;
type ClusterName = keyof typeof clusters;

function bootstrap(ports: Readonly<Record<string, number>>, logFile: string): object {
  const manager = {
    access_log: [fileLog(logFile, logFormat)],
    http_protocol_options: { enable_trailers: true },
    upgrade_configs: [{ upgrade_type: "websocket" }],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: Object.keys(clusters).flatMap((cluster) => [
            { match: { path: `/${cluster}/slow` }, route: { cluster, timeout: "0.3s" } },
            {
              match: { path: `/${cluster}/retry` },
              route: { cluster, retry_policy: { retry_on: "refused-stream", num_retries: 2, retry_back_off: { base_interval: "0.01s" } } },
            },
            { match: { prefix: `/${cluster}/` }, route: { cluster } },
          ]),
        },
      ],
    },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  };
  return httpBootstrap(
    Object.entries(clusters).map(([name, { options, upstream, ...rest }]) =>
      staticCluster(
        name,
        [ports[upstream]!],
        options,
        "tls" in rest
          ? {
              transport_socket: {
                name: "envoy.transport_sockets.tls",
                typed_config: {
                  "@type": type("transport_sockets.tls.v3.UpstreamTlsContext"),
                  sni: "h2.test",
                  common_tls_context: rest.tls,
                },
              },
            }
          : {},
      ),
    ),
    manager,
  );
}

interface Ask {
  readonly path?: string;
  readonly cluster?: ClusterName;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  readonly trailers?: Readonly<Record<string, string>>;
  /** Gives the request up when its response has begun, or after a while. */
  readonly cancels?: "onResponse" | "soon";
  /** Sends no end. */
  readonly isUnfinished?: boolean;
  /** No client of HTTP/2 may say so. */
  readonly onlyHttp1?: boolean;
}

interface Answer {
  readonly head: readonly string[];
  readonly body: string;
  readonly trailers: readonly string[];
  readonly end: string;
}

async function askByHttp2(
  port: number,
  name: string,
  { path = "", cluster = "h2", method = "GET", headers, ...rest }: Ask,
): Promise<Answer> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const all = { ":path": `/${cluster}/${path}`, ":method": method, ":authority": "h2.test", "x-case": name, ...headers };
  const { head, body, trailers, end } = await askHttp2(session, { ...rest, headers: all });
  session.destroy();
  return { head, body, trailers, end };
}

function askHttp1(
  port: number,
  name: string,
  { path = "", cluster = "h2", method = "GET", headers, body, trailers, cancels, isUnfinished }: Ask,
): Promise<Answer> {
  return new Promise((resolve) => {
    const all = { host: "h2.test", "x-case": name, ...(trailers && { trailer: Object.keys(trailers).join() }), ...headers };
    const asked = requestHttp1({ port, host: "127.0.0.1", agent: false, path: `/${cluster}/${path}`, method, headers: all }, (response) => {
      let text = "";
      const head = [`:status: ${response.statusCode}`, ...entries(response.headers as http2.IncomingHttpHeaders)];
      const end = (how: string) => resolve({ head, body: digest(text), trailers: entries(response.trailers), end: how });
      response.setEncoding("latin1").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => end("0")).on("error", () => end("cut"));
      if (cancels === "onResponse") asked.destroy();
    });
    asked.on("error", () => resolve({ head: [], body: "", trailers: [], end: "cut" }));
    if (trailers) asked.addTrailers(trailers);
    if (isUnfinished) asked.write(body);
    else asked.end(body);
    if (cancels === "soon") setTimeout(() => asked.destroy(), 100);
  });
}

const text = (value: string) => Buffer.from(value);
const reply = (how: string, more: Ask = {}): Ask => ({ ...more, headers: { ...more.headers, "x-reply": how } });
const grpc = { method: "POST", headers: { "content-type": "application/grpc", te: "trailers" }, body: text("") } as const;
const cases: Readonly<Record<string, Ask>> = {
  "a plain request": { path: "a?b=c", headers: { "x-one": "1" } },
  HEAD: { method: "HEAD" },
  "a POST without a body": { method: "POST" },
  "a body": reply("echo", { method: "POST", body: text("abc") }),
  "a body with its length": reply("echo", { method: "POST", body: text("abc"), headers: { "content-length": "3" } }),
  "a large body, both ways": reply("echo", { method: "POST", body: Buffer.alloc(900_000, "p") }),
  "a large response": reply("big"),
  "a status without a body": reply("status 204"),
  "not modified": reply("status 304"),
  "an announcement before the response": reply("interim"),
  "trailers of the request": { method: "POST", body: text("b"), trailers: { "x-last": "1" } },
  "trailers of the response": reply("trailers"),
  "trailers of a gRPC response": reply("trailers", grpc),
  "nothing but trailers": reply("trailers-only", grpc),
  "te and others of a connection": { headers: { te: "gzip, trailers", "keep-alive": "timeout=1" }, onlyHttp1: true },
  cookies: { headers: { cookie: "a=b; c=d" } },
  "a reset before the response": reply("reset 8"),
  "a reset before the response, an internal error": reply("reset 2"),
  "a reset before the response, without an error": reply("reset 0"),
  "a stream that is refused": reply("reset 7"),
  "a stream that is refused, and tried again": reply("reset 7", { path: "retry" }),
  "a reset in the response": reply("reset-late 8"),
  "a reset in the response, without an error": reply("reset-late 0"),
  "a reset in a gRPC response": reply("reset-late 2", grpc),
  "a connection that is cut": reply("cut"),
  "a connection that says goodbye": reply("goaway"),
  "a response that takes too long": reply("never", { path: "slow" }),
  "a gRPC response that takes too long": reply("never", { ...grpc, path: "slow" }),
  "a client that gives its request up": reply("never", { cancels: "soon" }),
  "a client that gives up a response": reply("hang", { cancels: "onResponse" }),
  "a response before the request has ended": reply("early", { method: "POST", body: text("some"), isUnfinished: true }),
  "a response beside its request": reply("duplex", { method: "POST", body: text("second") }),
  "the client's protocol": { cluster: "downstream" },
  "the client's protocol, with trailers": reply("trailers", { cluster: "downstream" }),
  "in TLS": { cluster: "h2-tls" },
  "in TLS without a word about ALPN": { cluster: "h2-tls-unsaid" },
  "HTTP/1.1 in TLS without a word about ALPN": { cluster: "h1-tls-unsaid" },
  "what TLS agrees on": { cluster: "auto" },
  "what TLS agrees on, HTTP/1.1": { cluster: "auto-h1" },
};

describe.skipIf(!envoyBinary)("HTTP/2 towards upstreams, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  const upstreams = new Map<string, Readonly<Record<string, Http2Upstream>>>();
  const running = new Map<string, RunningProxy>();
  const directory = mkdtempSync(join(tmpdir(), "topsail-h2up-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));

  beforeAll(async () => {
    await Promise.all(
      proxies.map(async ({ name, start }) => {
        const made = {
          plain: stack.use(new Http2Upstream()),
          tls: stack.use(new Http2Upstream({ ...certificate, protocols: ["h2", "http/1.1"] })),
          "tls-h1": stack.use(new Http2Upstream({ ...certificate, protocols: ["http/1.1"] })),
        };
        upstreams.set(name, made);
        const ports: Record<string, number> = {};
        for (const [key, upstream] of Object.entries(made)) ports[key] = await upstream.listen();
        running.set(name, stack.use(await start(bootstrap(ports, join(directory, name)))));
      }),
    );
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** What came of it for the client, and what the upstream saw. */
  async function outcome(side: string, ask: typeof askByHttp2, name: string): Promise<unknown> {
    const one = cases[name]!;
    const all = Object.values(upstreams.get(side)!);
    const before = all.map(({ seen, offered }) => [seen.length, offered.length] as const);
    const answer = await ask(await running.get(side)!.listenerPort("in"), name.replaceAll(" ", "-"), one);
    const seen = () => all.flatMap((upstream, index) => upstream.seen.slice(before[index]![0]));
    const line = await eventually(
      () =>
        read(join(directory, side))
          .split("\n")
          .filter((entry) => entry.startsWith(`${name.replaceAll(" ", "-")} ${ask === askByHttp2 ? "HTTP/2" : "HTTP/1.1"} `))
          .pop(),
      "the line in the log",
    );
    await eventually(() => (seen().length > 0 ? true : undefined), "the upstream to hear of it");
    // How much had come by then is chance.
    return {
      ...(one.cancels ? { ...answer, body: "" } : answer),
      seen: seen(),
      line,
      offered: all.map(({ offered }, i) => offered.slice(before[i]![1])),
    };
  }

  describe.each([
    { protocol: "HTTP/1.1", ask: askHttp1 },
    { protocol: "HTTP/2", ask: askByHttp2 },
  ])("by $protocol", ({ ask }) => {
    it.each(Object.keys(cases).filter((name) => ask === askHttp1 || !cases[name]!.onlyHttp1))("%s", async (name) => {
      const [theirs, ours] = await Promise.all(proxies.map(({ name: side }) => outcome(side, ask, name)));
      expect(ours).toEqual(theirs);
    });
  });

  it("counts what the codec saw", async () => {
    const shown = async (name: string) => {
      const text = await running.get(name)!.admin("/stats?filter=http2%5C.|_[rt]x_reset");
      return new Map(
        text
          .split("\n")
          .filter(Boolean)
          .map((line) => line.split(": ") as [string, string]),
      );
    };
    const [theirs, ours] = await Promise.all(proxies.map(({ name }) => shown(name)));
    const same = new Map([...theirs!].filter(([name]) => ours!.has(name)));
    expect(Number(ours!.get("cluster.h2.http2.rx_reset"))).toBeGreaterThan(5);
    expect(ours).toEqual(same);
  });
});

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
