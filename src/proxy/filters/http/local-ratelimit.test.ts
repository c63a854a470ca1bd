import { describe, expect, it } from "vitest";
import { expandBootstrap, placeHttp } from "../../../../test/support/bootstrap-text.ts";
import { exchange } from "../../../../test/support/exchange.ts";
import { startOurProxy } from "../../../../test/support/proxies.ts";

const everyone = { default_value: { numerator: 100 } };
const bucket = { max_tokens: 10, fill_interval: "1000s" };

describe("local rate limits of two workers", () => {
  const connections = 60;
  const statuses = async (port: number) => {
    const all = await Promise.all(Array.from({ length: connections }, () => exchange(port, { line: "GET /" }, "0", (text) => text)));
    for (const { connection } of all) connection?.[Symbol.dispose]();
    return all.map(({ outcome }) => outcome.responses[0]?.status.split(" ")[1] ?? "closed");
  };
  const count = (found: readonly string[], wanted: string) => found.filter((status) => status === wanted).length;

  it("let as many requests pass as there are tokens, whichever worker they come to", async () => {
    const limit = {
      "@type": "LocalRateLimit",
      stat_prefix: "limit",
      token_bucket: bucket,
      filter_enabled: everyone,
      filter_enforced: everyone,
    };
    await using proxy = await startOurProxy(
      expandBootstrap({
        http_filters: [{ name: "limit", typed_config: limit }],
        routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }],
      }),
      { concurrency: 2 },
    );
    const found = await statuses(await proxy.listenerPort("main"));
    expect([count(found, "200"), count(found, "429")]).toEqual([10, connections - 10]);
  });

  it("let as many connections pass as there are tokens", async () => {
    const limit = { "@type": "NetworkLocalRateLimit", stat_prefix: "limit", token_bucket: bucket };
    await using proxy = await startOurProxy(
      expandBootstrap(
        placeHttp({
          main: { filter_chains: [{ filters: [{ name: "limit", typed_config: limit }, { http: {} }] }] },
          routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }],
        }),
      ),
      { concurrency: 2 },
    );
    const found = await statuses(await proxy.listenerPort("main"));
    expect([count(found, "200"), count(found, "closed")]).toEqual([10, connections - 10]);
  });
});
