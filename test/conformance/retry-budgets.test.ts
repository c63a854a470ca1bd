/** How many retries a cluster's budget lets go on at once: of the requests under way, or of those that began within an interval. As with Envoy. */
import { once } from "node:events";
import { createServer, get, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary } from "../support/envoy.ts";
import { eventually } from "../support/proxies.ts";
import { httpBootstrap, proxies, staticCluster, type } from "../support/static-bootstrap.ts";

const budgets: Record<string, object> = {
  default: {},
  half: { budget_percent: { value: 50 }, min_retry_concurrency: 0 },
  least: { budget_percent: { value: 1 }, min_retry_concurrency: 2 },
  none: { budget_percent: { value: 0 }, min_retry_concurrency: 0 },
  "of an interval": { budget_percent: { value: 25 }, min_retry_concurrency: 0, budget_interval: "600s" },
  "of an interval of nothing": { budget_percent: { value: 50 }, min_retry_concurrency: 0, budget_interval: "0s" },
};

/** Answers /good at once, the first attempt of others with 503, and holds their retries. */
class Upstream implements AsyncDisposable {
  readonly held: ServerResponse[] = [];
  readonly #server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    if (request.url!.endsWith("/good")) response.end("good");
    else if (request.headers["x-envoy-attempt-count"] === "1") response.writeHead(503).end();
    else this.held.push(response);
  });

  async start(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  release(): void {
    for (const response of this.held.splice(0)) response.end("late");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

function bootstrap(port: number): object {
  const names = Object.keys(budgets);
  const clusters = names.map((name) =>
    staticCluster(
      name,
      [port],
      { explicit_http_config: { http_protocol_options: {} } },
      {
        circuit_breakers: { thresholds: [{ max_retries: 1, retry_budget: budgets[name] }] },
      },
    ),
  );
  const routes = names.map((name, index) => ({
    match: { prefix: `/${index}/` },
    route: { cluster: name, timeout: "0s", retry_policy: { retry_on: "5xx", num_retries: 1, retry_back_off: { base_interval: "0.001s" } } },
  }));
  return httpBootstrap(clusters, {
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], include_request_attempt_count: true, routes }] },
    http_filters: [{ name: "envoy.filters.http.router", typed_config: { "@type": type("filters.http.router.v3.Router") } }],
  });
}

function ask(port: number, path: string): Promise<number> {
  return new Promise((resolve) => {
    get({ port, host: "127.0.0.1", path, agent: false }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode!));
    });
  });
}

describe.skipIf(!envoyBinary)("A budget of retries", () => {
  const stack = new AsyncDisposableStack();
  const sides: { readonly port: number; readonly upstream: Upstream }[] = [];

  beforeAll(async () => {
    for (const side of proxies) {
      const upstream = stack.use(new Upstream());
      const proxy = stack.use(await side.start(bootstrap(await upstream.start())));
      sides.push({ upstream, port: await proxy.listenerPort("in") });
    }
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  /** Of requests one after the other that fail at first: which are tried again ("r") while all retries before them go on. */
  async function tried({ port, upstream }: (typeof sides)[number], index: number, goodOnes: number): Promise<string> {
    for (let count = 0; count < goodOnes; count++) await ask(port, `/${index}/good`);
    let outcome = "";
    const answers: Promise<number>[] = [];
    for (let count = 0; count < 16; count++) {
      const held = upstream.held.length;
      let isAnswered = false;
      const answer = ask(port, `/${index}/bad`);
      answers.push(
        answer.finally(() => {
          isAnswered = true;
        }),
      );
      outcome += await eventually(() => (upstream.held.length > held ? "r" : isAnswered ? "-" : undefined), "a retry or an answer");
    }
    upstream.release();
    await Promise.all(answers);
    return outcome;
  }

  it.each(Object.keys(budgets).map((name, index) => [name, index] as const))("lets as many go on as Envoy's: %s", async (_, index) => {
    const [envoy, ours] = [await tried(sides[0]!, index, 10), await tried(sides[1]!, index, 10)];
    expect(ours).toBe(envoy);
  });

  it("grows with the requests of its interval, whether they are over or not", async () => {
    const index = Object.keys(budgets).indexOf("of an interval");
    const [envoy, ours] = [await tried(sides[0]!, index, 30), await tried(sides[1]!, index, 30)];
    expect(ours).toBe(envoy);
    expect(ours).toBe("r".repeat(16));
  });
});
