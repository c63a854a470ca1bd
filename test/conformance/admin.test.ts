/** The admin interface beside Envoy's, both running the same bootstrap one after the other on the same ports. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary, startEnvoy } from "../support/envoy.ts";
import { startProxyServer } from "../support/proxy-server.ts";

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

const hcmType = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/** In this order; those that change something come last. */
const requests: readonly (readonly [method: "GET" | "POST", path: string])[] = [
  ["GET", "/ready"],
  ["GET", "/listeners"],
  ["GET", "/listeners?format=json"],
  ["GET", "/clusters"],
  ["GET", "/clusters?format=json"],
  ["GET", "/clusters?filter=out"],
  ["GET", "/config_dump"],
  ["GET", "/config_dump?include_eds"],
  ["GET", "/config_dump?resource=static_clusters"],
  ["GET", "/config_dump?resource=static_listeners&mask=listener.name"],
  ["GET", "/config_dump?resource=dynamic_listeners"],
  ["GET", "/config_dump?resource=nope"],
  ["GET", "/config_dump?resource=bootstrap"],
  ["GET", "/config_dump?mask=bootstrap.node.id,bootstrap.admin"],
  ["GET", "/config_dump?mask=nope.nope"],
  ["GET", "/config_dump?name_regex=out"],
  ["GET", "/config_dump?name_regex=("],
  ["GET", "/stats?usedonly&filter=^server\\.(state|live)$"],
  ["GET", "/stats?type=Counters&filter=^cluster_manager"],
  ["GET", "/stats?type=Counters&filter=^cluster_manager&format=json"],
  ["GET", "/stats?filter=^listener_manager.listener_(added|removed|modified)$"],
  ["GET", "/stats/prometheus?filter=^cluster_manager"],
  ["GET", "/stats/prometheus?filter=cluster\\.(out|named\\.dots)\\.upstream_(rq_(200|2xx|total|completed)|cx_total)$"],
  ["GET", "/stats/prometheus?filter=upstream_rq_2xx"],
  ["GET", "/stats?format=nope"],
  ["GET", "/stats?filter=("],
  ["GET", "/stats?type=nope"],
  ["GET", "/stats?histogram_buckets=nope"],
  ["GET", "/stats?filter=nothing_of_the_kind"],
  ["GET", "/stats?filter=nothing_of_the_kind&format=json"],
  ["GET", "/certs"],
  ["GET", "/server_info"],
  ["GET", "/runtime"],
  ["GET", "/init_dump"],
  ["GET", "/hot_restart_version"],
  ["GET", "/contention"],
  ["GET", "/logging"],
  ["POST", "/logging"],
  ["POST", "/logging?upstream=debug"],
  ["POST", "/logging?nope=debug"],
  ["POST", "/logging?upstream=nope"],
  ["POST", "/logging?level=nope"],
  ["POST", "/logging?a=b&c=d"],
  ["POST", "/logging?paths=upstream:warning,main:error"],
  ["POST", "/logging?level=warning"],
  ["POST", "/runtime_modify"],
  ["POST", "/runtime_modify?a=b"],
  ["POST", "/reopen_logs"],
  ["POST", "/reset_counters"],
  ["GET", "/healthcheck/fail"],
  ["POST", "/healthcheck/fail"],
  ["GET", "/ready"],
  ["POST", "/healthcheck/ok"],
  ["GET", "/ready"],
  ["GET", "/drain_listeners"],
  ["POST", "/drain_listeners?inboundonly"],
  ["GET", "/listeners"],
  ["GET", "/quitquitquit"],
];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function ask(port: number, method: string, target: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: "127.0.0.1", method, path: target, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode!, headers: { ...response.headers }, body }));
    });
    request.on("error", reject);
    request.end();
  });
}

/** One answer a request; a call through the proxy first, so that there is something to count. */
async function visit(admin: number, listener: number): Promise<Answer[]> {
  for (let isLive = false; !isLive; ) {
    isLive = await ask(admin, "GET", "/ready").then(
      ({ status }) => status === 200,
      () => false,
    );
    if (!isLive) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect((await ask(listener, "GET", "/")).body).toBe("hello");
  // The client has its answer a moment before the worker counts the request as done; asking would itself be counted.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const answers: Answer[] = [];
  for (const [method, target] of requests) answers.push(await ask(admin, method, target));
  return answers;
}

/** What is of the moment or of the build, and so can't be equal. */
function comparable(target: string, { status, headers, body }: Answer): unknown {
  const { "content-type": type, "cache-control": cache, server } = headers;
  return { target, status, type, cache, server, body: comparableBody(body) };
}

function comparableBody(body: string): unknown {
  // Envoy's clusters and secrets come in the order of a hash map.
  if (body.includes("::observability_name::")) return body.split("\n").sort();
  if (!body.startsWith("{")) return body;
  const own = new Set([
    "extensions",
    "user_agent_build_version",
    "version",
    "last_updated",
    "log_format",
    "dynamic_parameters",
    "config_path",
    "config_yaml",
  ]);
  const strip = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(strip).sort(byName);
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value).filter(([key]) => !own.has(key) && !key.startsWith("uptime"));
    return Object.fromEntries(fields.map(([key, inner]) => [key, key === "days_until_expiration" ? nearMonth(inner) : strip(inner)]));
  };
  return strip(JSON.parse(body));
}

/** The certificate is made for 30 days, which become 29 within a second. */
function nearMonth(days: unknown): unknown {
  return days === "29" || days === "30" ? "29 or 30" : days;
}

function byName(left: unknown, right: unknown): number {
  const name = (value: unknown) => (typeof value === "object" && value !== null && "name" in value ? String(value.name) : "");
  return name(left).localeCompare(name(right));
}

describe.skipIf(!envoyBinary)("Admin interface, beside Envoy", () => {
  const stack = new AsyncDisposableStack();
  let theirs: Answer[] = [];
  let ours: Answer[] = [];

  beforeAll(async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "topsail-admin-"));
    stack.defer(() => rmSync(directory, { recursive: true }));
    const [key, certificate] = [path.join(directory, "key.pem"), path.join(directory, "crt.pem")];
    const names = "subjectAltName=DNS:a.example,URI:spiffe://td/ns/a/sa/b,IP:1.2.3.4";
    const openssl = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=a"];
    execFileSync("openssl", [...openssl, "-keyout", key, "-out", certificate, "-addext", names], { stdio: "ignore" });
    const upstream = http.createServer((_request, response) => response.end("hello"));
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
    stack.defer(() => {
      upstream.closeAllConnections();
      upstream.close();
    });
    const [admin, listener, tls] = [await freePort(), await freePort(), await freePort()];
    const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
    const endpoint = (port: number, more = {}) => ({ endpoint: { address: address(port), ...more } });
    const cluster = (name: string, more: object, ...endpoints: object[]) => ({
      name,
      connect_timeout: "1s",
      load_assignment: { cluster_name: name, endpoints: [{ locality: { region: "r", zone: "z" }, lb_endpoints: endpoints }] },
      ...more,
    });
    const bootstrap = {
      node: { id: "node", cluster: "cluster", metadata: { role: "test" } },
      admin: { address: address(admin) },
      static_resources: {
        secrets: [
          { name: "file", tls_certificate: { certificate_chain: { filename: certificate }, private_key: { filename: key } } },
          {
            name: "inline",
            tls_certificate: {
              certificate_chain: { inline_string: readFileSync(certificate, "utf8") },
              private_key: { inline_string: readFileSync(key, "utf8") },
              password: { inline_string: "secret" },
            },
          },
        ],
        clusters: [
          cluster("named.dots", {
            circuit_breakers: { thresholds: [{ max_connections: 7 }, { priority: "HIGH", max_retries: 1 }] },
            outlier_detection: {},
          }),
          cluster("out", {}, endpoint((upstream.address() as AddressInfo).port, { hostname: "up" })),
        ],
        listeners: [
          {
            name: "plain",
            address: address(listener),
            filter_chains: [
              {
                filters: [
                  {
                    name: "hcm",
                    typed_config: {
                      "@type": hcmType,
                      stat_prefix: "in",
                      route_config: {
                        name: "inline",
                        virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "out" } }] }],
                      },
                      http_filters: [
                        { name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
                      ],
                    },
                  },
                ],
              },
            ],
          },
          {
            name: "tls",
            traffic_direction: "OUTBOUND",
            address: address(tls),
            filter_chains: [
              {
                transport_socket: {
                  name: "tls",
                  typed_config: {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    common_tls_context: { tls_certificate_sds_secret_configs: [{ name: "file" }] },
                  },
                },
                filters: [
                  {
                    name: "tcp",
                    typed_config: {
                      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                      stat_prefix: "t",
                      cluster: "out",
                    },
                  },
                ],
              },
            ],
          },
        ],
      },
    };
    const file = path.join(directory, "bootstrap.json");
    writeFileSync(file, JSON.stringify(bootstrap));
    {
      await using _envoy = startEnvoy(["-c", file, "--concurrency", "1"]);
      theirs = await visit(admin, listener);
    }
    await using _proxy = await startProxyServer(bootstrap, { logLevel: "warning", drainTimeMs: 600_000, drainStrategy: "gradual" });
    ours = await visit(admin, listener);
  });

  afterAll(() => stack.disposeAsync());

  it.each(requests.map(([method, target], index) => [`${method} ${target}`, index] as const))("answers %s alike", (target, index) => {
    expect(comparable(target, ours[index]!)).toEqual(comparable(target, theirs[index]!));
  });

  it("writes the fields of a dump in Envoy's order", () => {
    const index = requests.findIndex(([, target]) => target === "/config_dump?resource=static_clusters");
    const order = ({ body }: Answer) => [...body.matchAll(/"(@?\w+)":/g)].map(([, name]) => name);
    expect(order(ours[index]!)).toEqual(order(theirs[index]!));
  });
});
