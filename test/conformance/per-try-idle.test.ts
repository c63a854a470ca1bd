/** An endpoint that goes silent during an attempt: before its answer, within it, or not for long enough. As with Envoy. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { fileLog, httpBootstrap, proxies, routerFilter, staticCluster } from "../support/static-bootstrap.ts";

/** Ways of an endpoint, by path; the second attempt of `/better` is well. */
const upstream = createServer({ keepAliveTimeout: 600_000 }, async (request, response) => {
  const attempt = request.headers["x-envoy-attempt-count"];
  const path = request.url!;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  if (path.endsWith("/well") || (path.endsWith("/better") && attempt !== "1")) response.end("well");
  else if (path.endsWith("/lively")) {
    for (let count = 0; count < 6; count++) {
      response.write("bit;");
      await pause(120);
    }
    response.end("end");
  } else if (path.endsWith("/stalls")) response.write("some");
  else if (path.endsWith("/slow")) {
    await pause(150);
    response.end("slow");
  }
});

const retry = ({ timeout = "0s", ...more }: { timeout?: string; [field: string]: unknown }) => ({
  route: { timeout, retry_policy: { num_retries: 1, retry_back_off: { base_interval: "0.001s" }, ...more } },
});
const routes: Record<string, ReturnType<typeof retry>> = {
  tries: retry({ retry_on: "5xx", per_try_idle_timeout: "0.8s" }),
  never: retry({ retry_on: "retriable-4xx", per_try_idle_timeout: "0.8s" }),
  // Not by little: where the second comes before the first on a busy machine, Envoy lets go of both and waits for ever.
  both: retry({ retry_on: "5xx", per_try_idle_timeout: "0.8s", per_try_timeout: "5s" }),
  shorter: retry({ retry_on: "5xx", per_try_idle_timeout: "5s", per_try_timeout: "0.8s", timeout: "4s" }),
};

describe.skipIf(!envoyBinary)("A timeout between an attempt's signs of life", () => {
  const stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-idle-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const running: RunningProxy[] = [];

  beforeAll(async () => {
    upstream.listen(0, "127.0.0.1");
    await once(upstream, "listening");
    stack.defer(() => {
      upstream.closeAllConnections();
      upstream.close();
    });
    const { port } = upstream.address() as AddressInfo;
    const http1 = { explicit_http_config: { http_protocol_options: {} } };
    const cluster = staticCluster("up", [port], http1, { circuit_breakers: { thresholds: [{ max_retries: 100 }] } });
    for (const side of proxies) {
      const format = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n";
      const manager = {
        access_log: [fileLog(join(directory, side.name), format)],
        route_config: {
          virtual_hosts: [
            {
              name: "all",
              domains: ["*"],
              include_request_attempt_count: true,
              routes: Object.entries(routes).map(([name, { route }]) => ({
                match: { prefix: `/${name}/` },
                route: { cluster: "up", ...route },
              })),
            },
          ],
        },
        http_filters: [routerFilter],
      };
      running.push(stack.use(await side.start(httpBootstrap([cluster], manager))));
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  async function ask(proxy: RunningProxy, path: string): Promise<unknown> {
    const port = await proxy.listenerPort("in");
    const answer = await new Promise((resolve) => {
      get({ port, host: "127.0.0.1", path, agent: false }, (response) => {
        let body = "";
        let isCut = false;
        response
          .setEncoding("latin1")
          .on("data", (text: string) => {
            body += text;
          })
          .on("error", () => {
            isCut = true;
          })
          .on("close", () => resolve({ status: response.statusCode, body, isCut }));
      }).on("error", (error) => resolve(error.message));
    });
    const line = await eventually(
      () =>
        readFileSync(join(directory, proxy.name), { encoding: "utf8", flag: "a+" })
          .split("\n")
          .find((one) => one.startsWith(`${path} `)),
      "a log line",
    );
    return { answer, line };
  }

  const counted = async (proxy: RunningProxy) =>
    (await proxy.admin("/stats?filter=^cluster.up.upstream_rq_(per_try|retry|timeout|[0-9]|completed)"))
      .split("\n")
      .filter((line) => !line.includes("0rtt"))
      .sort();

  it("ends attempts, responses and nothing else, as with Envoy", async () => {
    const ways = ["well", "better", "lively", "stalls", "slow", "silent"];
    const paths = Object.keys(routes).flatMap((route) => ways.map((way) => `/${route}/${way}`));
    const [envoy, ours] = await Promise.all(running.map((proxy) => Promise.all(paths.map((path) => ask(proxy, path)))));
    expect(ours).toEqual(envoy);
    expect(ours![paths.indexOf("/tries/better")]).toMatchObject({ answer: { status: 200, body: "well" } });
    expect(ours![paths.indexOf("/tries/stalls")]).toMatchObject({ answer: { status: 200, body: "some", isCut: true } });
    expect(ours![paths.indexOf("/tries/silent")]).toMatchObject({ answer: { status: 504 } });
  }, 30_000);

  it("is counted as Envoy counts it", async () => {
    const [envoy, ours] = await Promise.all(running.map(counted));
    expect(ours).toEqual(envoy);
    expect(ours!.find((line) => line.includes("per_try_idle_timeout"))).not.toMatch(/: 0$/);
  });
});
