/** One request through Envoy and through us, every operator in its log: the same values, apart from ports and times. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as http from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { envoyBinary, startEnvoy } from "../support/envoy.ts";
import { startProxyServer } from "../support/proxy-server.ts";

const operators = `
REQ(:METHOD) REQ(:PATH) REQ(:AUTHORITY) REQ(:SCHEME) REQ(X-MISSING?:PATH) REQ(USER-AGENT):3 REQ(X-FORWARDED-FOR) REQ(X-MISSING)
RESP(:STATUS) RESP(CONTENT-TYPE) RESP(X-UP) RESP(X-MISSING) TRAILER(X)
START_TIME(%Y) EMIT_TIME(%Y) COMMON_DURATION(DS_RX_BEG:NOT_A_POINT)
PROTOCOL UPSTREAM_PROTOCOL RESPONSE_CODE RESPONSE_CODE_DETAILS RESPONSE_FLAGS RESPONSE_FLAGS_LONG CONNECTION_TERMINATION_DETAILS
GRPC_STATUS GRPC_STATUS(NUMBER) GRPC_STATUS_NUMBER BYTES_RECEIVED BYTES_SENT
DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT
DOWNSTREAM_LOCAL_PORT DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_PORT
UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT
UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TRANSPORT_FAILURE_REASON
ROUTE_NAME VIRTUAL_CLUSTER_NAME FILTER_CHAIN_NAME REQUESTED_SERVER_NAME
DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_PEER_CERT_V_START
DOWNSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_TLS_VERSION DYNAMIC_METADATA(ns) DYNAMIC_METADATA(ns:key)
ENVIRONMENT(TOPSAIL_TEST) ENVIRONMENT(TOPSAIL_MISSING) HOSTNAME PATH PATH(NQ) PATH(WQ:PATH) PATH(NQ:ORIG) QUERY_PARAM(q) QUERY_PARAM(none) QUERY_PARAMS
LOCAL_REPLY_BODY ACCESS_LOG_TYPE
`
  .trim()
  .split(/\s+/);

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One call over a connection of its own; resolves to the status. */
function call(port: number, method: string, target: string, body = ""): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { host: "host.example", "user-agent": "test-agent" };
    const request = http.request({ port, host: "127.0.0.1", method, path: target, agent: false, headers }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode!));
    });
    request.on("error", reject);
    request.end(body);
  });
}

describe.skipIf(!envoyBinary)("Access log, beside Envoy", () => {
  it("has the same values for an answer of the upstream, a local reply, a missing route and a dead upstream", async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "topsail-log-"));
    const upstream = http.createServer((request, response) => {
      request
        .resume()
        .on("end", () => response.writeHead(200, { "content-type": "text/x", "x-up": "1", "content-length": 5 }).end("hello"));
    });
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
    process.env.TOPSAIL_TEST = "value";
    const [listener, dead] = [await freePort(), await freePort()];
    const address = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
    const cluster = (name: string, port: number, more = {}) => ({
      name,
      connect_timeout: "1s",
      load_assignment: {
        cluster_name: name,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port), hostname: name === "up" ? "up.example" : "" } }] }],
      },
      ...more,
    });
    const bootstrap = (file: string, textFile: string) => {
      const log = (to: string, format: object) => ({
        name: "file",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
          path: to,
          log_format: format,
        },
      });
      const text = operators.map((operator) => `%${operator}%`).join("|");
      return {
        static_resources: {
          clusters: [cluster("up", (upstream.address() as AddressInfo).port, { alt_stat_name: "up-alias" }), cluster("dead", dead)],
          listeners: [
            {
              name: "in",
              address: address(listener),
              filter_chains: [
                {
                  name: "chain",
                  filters: [
                    {
                      name: "hcm",
                      typed_config: {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        stat_prefix: "in",
                        access_log: [
                          log(file, { json_format: Object.fromEntries(operators.map((operator) => [operator, `%${operator}%`])) }),
                          log(textFile, { text_format_source: { inline_string: `${text}\n` } }),
                        ],
                        route_config: {
                          virtual_hosts: [
                            {
                              name: "all",
                              domains: ["*"],
                              routes: [
                                { name: "tea", match: { path: "/tea" }, direct_response: { status: 418, body: { inline_string: "tea" } } },
                                { name: "dead", match: { path: "/dead" }, route: { cluster: "dead" } },
                                { match: { path: "/unknown" }, route: { cluster: "up", timeout: "1s" } },
                                { name: "main", match: { prefix: "/p" }, route: { cluster: "up" } },
                              ],
                            },
                          ],
                        },
                        http_filters: [
                          {
                            name: "router",
                            typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                          },
                        ],
                      },
                    },
                  ],
                },
              ],
            },
          ],
        },
      };
    };
    const calls = async () => {
      while (
        !(await call(listener, "GET", "/tea").then(
          () => true,
          () => false,
        ))
      )
        await new Promise((resolve) => setTimeout(resolve, 50));
      expect(await call(listener, "POST", "/p/a?q=1&z=2", "abc")).toBe(200);
      expect(await call(listener, "GET", "/nothing")).toBe(404);
      expect(await call(listener, "GET", "/dead")).toBe(503);
    };
    const until = async (file: string) => {
      while (readFileSync(file, "utf8").split("\n").length < 5) await new Promise((resolve) => setTimeout(resolve, 20));
      return readFileSync(file, "utf8").trim().split("\n");
    };
    const [theirs, theirText, ours, ourText] = ["theirs.json", "theirs.txt", "ours.json", "ours.txt"].map((name) =>
      path.join(directory, name),
    ) as [string, string, string, string];
    try {
      {
        const yaml = JSON.stringify(bootstrap(theirs, theirText));
        await using _envoy = startEnvoy(["--config-yaml", yaml, "--concurrency", "1", "--file-flush-interval-msec", "50"]);
        await calls();
        await Promise.all([until(theirs), until(theirText)]);
      }
      await using proxy = await startProxyServer(bootstrap(ours, ourText), { fileFlushIntervalMs: 50 });
      await proxy.server.live;
      await calls();
      await Promise.all([until(ours), until(ourText)]);
      const parsed = (lines: string[]) => lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(parsed(await until(ours))).toEqual(parsed(await until(theirs)));
      const columns = (lines: string[]) =>
        lines.map((line) => Object.fromEntries(line.split("|").map((value, index) => [operators[index], value])));
      expect(columns(await until(ourText))).toEqual(columns(await until(theirText)));
      const keys = (lines: string[]) => Object.keys(JSON.parse(lines[0]!) as object);
      expect(keys(await until(ours))).toEqual(keys(await until(theirs)));
    } finally {
      delete process.env.TOPSAIL_TEST;
      upstream.closeAllConnections();
      upstream.close();
      rmSync(directory, { recursive: true });
    }
  });
});
