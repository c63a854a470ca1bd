/** The filters in a running worker: what a client sees. */
import { once } from "node:events";
import * as http from "node:http";
import * as net from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { staticWorker } from "../../testing/static-update.ts";
import { WorkerState } from "../../worker-state.ts";

const type = "type.googleapis.com/envoy";
const corsPolicy = (parts: string) =>
  `{ envoy.filters.http.cors: { "@type": ${type}.extensions.filters.http.cors.v3.CorsPolicy, ${parts} } }`;
const faultOf = (parts: string) =>
  `{ envoy.filters.http.fault: { "@type": ${type}.extensions.filters.http.fault.v3.HTTPFault, ${parts} } }`;
const always = "percentage: { numerator: 100 }";
const route = (prefix: string, config: string) =>
  `{ match: { prefix: "${prefix}" }, route: { cluster: up }, typed_per_filter_config: ${config} }`;

const yaml = (upstreamPort: number) => `static_resources:
  listeners:
  - name: l
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: h
        typed_config:
          "@type": ${type}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: t
          route_config:
            name: r
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - ${route("/cors", corsPolicy('allow_origin_string_match: [ { exact: "http://a" } ], allow_methods: GET, max_age: "60"'))}
              - ${route("/closed", corsPolicy('allow_origin_string_match: [ { exact: "http://a" } ], forward_not_matching_preflights: false'))}
              - ${route("/abort", faultOf(`abort: { http_status: 418, ${always} }`))}
              - ${route("/delay", faultOf(`delay: { fixed_delay: 0.05s, ${always} }`))}
              - ${route("/off", `{ envoy.filters.http.fault: { "@type": ${type}.config.route.v3.FilterConfig, disabled: true } }`)}
              - { match: { prefix: "/" }, route: { cluster: up } }
          http_filters:
          - { name: envoy.filters.http.cors, typed_config: { "@type": ${type}.extensions.filters.http.cors.v3.Cors } }
          - { name: envoy.filters.http.fault, typed_config: { "@type": ${type}.extensions.filters.http.fault.v3.HTTPFault, abort: { header_abort: {}, ${always} } } }
          - { name: r, typed_config: { "@type": ${type}.extensions.filters.http.router.v3.Router } }
  clusters:
  - { name: up, type: STATIC, load_assignment: { cluster_name: up, endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${upstreamPort} } } } } ] } ] } }
`;

let upstream: http.Server;
let worker: WorkerState;
let port = 0;

beforeAll(async () => {
  upstream = http.createServer((request, response) => {
    request.pipe(response);
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const { data, update } = staticWorker(yaml((upstream.address() as net.AddressInfo).port));
  const applied = Promise.withResolvers<void>();
  worker = new WorkerState(data, (message) => {
    if (message.type !== "applied") return;
    expect(message.errors).toEqual([]);
    port = message.bound[0]!.port;
    applied.resolve();
  });
  worker.update(update);
  await applied.promise;
});

afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  upstream.closeAllConnections();
  upstream.close();
});

async function ask(line: string, headers: readonly string[] = [], body = ""): Promise<string> {
  const socket = net.connect({ port, host: "127.0.0.1" });
  socket.setEncoding("latin1");
  socket.write(`${line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n${headers.map((header) => `${header}\r\n`).join("")}\r\n${body}`);
  let received = "";
  for await (const chunk of socket) received += chunk as string;
  return received;
}

describe("cors", () => {
  const preflight = ["Access-Control-Request-Method: PUT"];

  it("answers a preflight of an allowed origin", async () => {
    const answer = await ask("OPTIONS /cors", ["Origin: http://a", ...preflight]);
    expect(answer).toMatch(
      /^HTTP\/1\.1 200 OK\r\naccess-control-allow-origin: http:\/\/a\r\naccess-control-allow-methods: GET\r\naccess-control-max-age: 60\r\n/,
    );
  });

  it("marks the response to an allowed origin, and no other", async () => {
    expect(await ask("GET /cors", ["Origin: http://a"])).toContain("access-control-allow-origin: http://a\r\n");
    expect(await ask("GET /cors", ["Origin: http://b"])).not.toContain("access-control");
    expect(await ask("GET /", ["Origin: http://a"])).not.toContain("access-control");
  });

  it("passes or answers a preflight of another origin as the policy says", async () => {
    expect(await ask("OPTIONS /cors", ["Origin: http://b", ...preflight])).toContain("x-envoy-upstream-service-time");
    const answer = await ask("OPTIONS /closed", ["Origin: http://b", ...preflight]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).not.toContain("access-control");
    expect(answer).not.toContain("x-envoy-upstream-service-time");
  });
});

describe("fault", () => {
  it("aborts", async () => {
    expect(await ask("GET /abort")).toMatch(/^HTTP\/1\.1 418 Unknown\r\n.*\r\n\r\nfault filter abort$/s);
    expect(await ask("POST /abort", ["Content-Type: application/grpc"])).toMatch(/grpc-status: 2\r\ngrpc-message: fault filter abort\r\n/);
  });

  it("delays a request and then sends all of it", async () => {
    const began = performance.now();
    expect(await ask("POST /delay", ["Content-Length: 5"], "hello")).toMatch(/^HTTP\/1\.1 200 OK\r\n.*hello\r\n/s);
    expect(performance.now() - began).toBeGreaterThanOrEqual(49);
  });

  it("obeys the request's header where the filter lets it, and a route that turns it off", async () => {
    expect(await ask("GET /", ["x-envoy-fault-abort-request: 503"])).toMatch(/^HTTP\/1\.1 503 /);
    expect(await ask("GET /off", ["x-envoy-fault-abort-request: 503"])).toMatch(/^HTTP\/1\.1 200 /);
  });
});
