import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Counter, Registry } from "prom-client";
import { afterEach, describe, expect, it } from "vitest";
import { formatOf, textFormat, wishes } from "./media-types.ts";
import { MergedMetrics } from "./merged-metrics.ts";
import { parseScrapeTargets } from "./scrape-targets.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

const openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<number> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}
const says = (body: string, contentType = "text/plain") =>
  serve((_, response) => response.writeHead(200, { "content-type": contentType }).end(body));

const everything = { search: "", accept: "*/*", userAgent: "", timeoutSeconds: "" };
function metrics(proxyPort: number | undefined, ...ports: number[]) {
  const registry = new Registry();
  const made = new MergedMetrics({
    registry,
    others: [],
    proxyUrl: proxyPort === undefined ? undefined : `http://127.0.0.1:${proxyPort}/stats/prometheus`,
    application: ports.map((port) => ({ port, path: "/metrics" })),
    applicationHost: "127.0.0.1",
  });
  new Counter({ name: "own_total", help: "h", registers: [registry] }).inc();
  return {
    page: async (over: Partial<typeof everything> = {}) => {
      const { contentType, body } = await made.page({ ...everything, ...over });
      return { contentType, body: Buffer.concat(await Array.fromAsync(body)).toString() };
    },
    parts: async () => (await made.page(everything)).body,
    failures: async () => [...(await registry.metrics()).matchAll(/^istio_agent_scrape_failures_total.*/gm)].map(([line]) => line).sort(),
  };
}

describe("merged metrics", () => {
  it("are the agent's, the proxy's and the application's, each whole", async () => {
    const { page } = metrics(await says("envoy_up{} 1\n"), await says("app_up 1"), await says("other_up 1\n"));
    const { contentType, body } = await page();
    expect(contentType).toBe(textFormat);
    expect(body).toMatch(/^own_total 1\n/m);
    expect(body).toMatch(/\nenvoy_up\{\} 1\napp_up 1\nother_up 1\n$/);
  });

  it("have the application's format and one end, and nothing that this format does not know", async () => {
    const app = await says("app_total 1\n# EOF\n", openMetricsType);
    const { page } = metrics(
      await says("# a comment\n# TYPE envoy_up gauge\nenvoy_up{} 1\n\n\n"),
      app,
      await says("b_total 1\n# EOF", openMetricsType),
    );
    const { contentType, body } = await page();
    expect(contentType).toBe(openMetricsType);
    expect(body).toMatch(/\n# TYPE envoy_up gauge\nenvoy_up\{\} 1\napp_total 1\nb_total 1\n# EOF\n$/);
    expect(body.split("# EOF")).toHaveLength(2);
    expect(body).not.toMatch(/^\n|\n\n|comment/);
  });

  it("are text where applications do not agree", async () => {
    const { page } = metrics(undefined, await says("a 1\n# EOF\n", openMetricsType), await says("b 1\n"));
    const { contentType, body } = await page();
    expect(contentType).toBe(textFormat);
    expect(body).toMatch(/\na 1\nb 1\n$/);
  });

  it("leave out who fails, and count it", async () => {
    const failing = await serve((_, response) => response.writeHead(500).end("broken"));
    const closed = await says("");
    servers.pop()!.close();
    const { page, failures } = metrics(closed, failing, await says("app_up 1\n"));
    const { body } = await page();
    expect(body).toMatch(/^own_total 1\n/m);
    expect(body).toMatch(/\napp_up 1\n$/);
    expect(body).not.toContain("broken");
    expect(await failures()).toEqual([
      'istio_agent_scrape_failures_total{type="application"} 1',
      'istio_agent_scrape_failures_total{type="envoy"} 1',
    ]);
  });

  it("leave out who has too much to say, packed or not, and who takes too long", async () => {
    const endless = await serve((_, response) => {
      response.writeHead(200);
      const more = () => {
        while (response.write(Buffer.alloc(1024 * 1024, "#")));
        response.once("drain", more);
      };
      more();
    });
    const silent = await serve((_, response) => response.writeHead(200).flushHeaders());
    const { page, failures } = metrics(undefined, endless, silent, await says("app_up 1\n"));
    expect((await page({ timeoutSeconds: "1" })).body).toMatch(/\napp_up 1\n$/);
    expect(await failures()).toEqual(['istio_agent_scrape_failures_total{type="application"} 2']);
  });

  it("pass on a long page of the proxy's as it comes, and end it with its last whole line where it breaks off", async () => {
    const line = `envoy_x{a="${"b".repeat(90)}"} 1\n`;
    const begun = Promise.withResolvers<ServerResponse>();
    const proxy = await serve((_, response) => {
      response.write(line.repeat(20_000));
      begun.resolve(response);
    });
    const { parts, failures } = metrics(proxy, await says("app_up 1\n"));
    const body = await parts();
    let text = "";
    while (text.length < 1_500_000) text += String((await body.next()).value);
    expect(await failures()).toEqual([]);
    // Only now: what came before was not waited for.
    const response = await begun.promise;
    response.write(`${line}envoy_broken{a="`, () => response.destroy());
    for await (const part of body) text += part.toString();
    expect(text.endsWith(`${line}${line}app_up 1\n`)).toBe(true);
    expect(text).not.toContain("envoy_broken");
    expect(text.split(line)).toHaveLength(20_002);
    expect(await failures()).toEqual(['istio_agent_scrape_failures_total{type="envoy"} 1']);
  });

  it("leave out a short page of the proxy's that breaks off", async () => {
    const proxy = await serve((_, response) => response.write("envoy_up{} 1\n", () => response.destroy()));
    const { page, failures } = metrics(proxy, await says("app_up 1\n"));
    expect((await page()).body).toMatch(/^own_total 1\napp_up 1\n$/m);
    expect((await page()).body).not.toContain("envoy_up");
    expect(await failures()).toEqual(['istio_agent_scrape_failures_total{type="envoy"} 2']);
  });

  it("take no more of the proxy's page when nobody wants it", async () => {
    const left = Promise.withResolvers<void>();
    const proxy = await serve((_, response) => {
      response.once("close", left.resolve);
      const more = () => {
        while (response.write(Buffer.alloc(64 * 1024, "x\n")));
        response.once("drain", more);
      };
      more();
    });
    const body = await metrics(proxy).parts();
    for (let taken = 0; taken < 3; taken++) await body.next();
    await body.return();
    await left.promise;
  });

  it("are asked for with the scraper's wishes, as far as pages can be put together", async () => {
    const seen: Record<string, unknown>[] = [];
    const note = (request: IncomingMessage, response: ServerResponse) => {
      const { accept, "user-agent": userAgent, "x-prometheus-scrape-timeout-seconds": timeout } = request.headers;
      seen.push({ url: request.url, accept, userAgent, timeout });
      response.end();
    };
    const { page } = metrics(await serve(note), await serve(note));
    await page({
      search: "?filter=x",
      accept: "application/vnd.google.protobuf,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
      userAgent: "P",
      timeoutSeconds: "5",
    });
    expect(seen).toContainEqual({
      url: "/stats/prometheus?filter=x",
      accept: "text/plain;version=0.0.4;q=0.1",
      userAgent: "P",
      timeout: "4.5",
    });
    expect(seen).toContainEqual({
      url: "/metrics",
      accept: "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.1",
      userAgent: "P",
      timeout: "4.5",
    });
  });
});

describe("wishes of a scraper", () => {
  it.each([
    ["", "text/plain;version=0.0.4"],
    ["application/vnd.google.protobuf", "text/plain;version=0.0.4"],
    ["application/*", "application/openmetrics-text;version=0.0.1;q=0.1"],
    ["text/plain;version=0.0.4;q=0.3,*", "text/plain;version=0.0.4;q=0.1"],
  ])("%j become %j", (accept, wanted) => {
    expect(wishes(accept, true)).toBe(wanted);
  });

  it("are answered in a version of OpenMetrics that is known, or in text", () => {
    expect(formatOf('application/openmetrics-text; version="1.0.0"')).toBe(openMetricsType);
    expect(formatOf("application/openmetrics-text")).toBe("application/openmetrics-text; version=0.0.1; charset=utf-8");
    expect(formatOf("application/openmetrics-text; version=9")).toBe(textFormat);
    expect(formatOf("")).toBe(textFormat);
  });
});

describe("ISTIO_PROMETHEUS_ANNOTATIONS", () => {
  const parse = (text: string) => parseScrapeTargets(text, [9999]);

  it("names one place, with Istio's defaults, or several, or none", () => {
    expect(parse("{}")).toEqual([{ port: 80, path: "/metrics" }]);
    expect(parse('{"scrape":"true","port":"9090","path":"/m?x=1"}')).toEqual([{ port: 9090, path: "/m?x=1" }]);
    expect(parse('{"port":"1","targets":[{"port":"9090"},{"port":9091,"path":"/b"}]}')).toEqual([
      { port: 9090, path: "/metrics" },
      { port: 9091, path: "/b" },
    ]);
    expect(parse('{"scrape":"false","port":"x"}')).toEqual([]);
    expect(parseScrapeTargets(undefined, [])).toEqual([]);
  });

  it.each([
    ["{", "is no JSON"],
    ["[]", "is no JSON object"],
    ['{"port":"http"}', 'port: "http" is no port'],
    ['{"port":"015020"}', "port: 15020 is the agent's or the proxy's own"],
    ['{"port":"9999"}', "port: 9999 is the agent's or the proxy's own"],
    ['{"port":"1","path":"metrics"}', 'path: "metrics" is no path'],
    ['{"targets":[1]}', "targets: holds what is no object"],
    ['{"targets":{}}', "targets: is no list"],
  ])("%s is refused: %s", (text, reason) => {
    expect(() => parse(text)).toThrow(`ISTIO_PROMETHEUS_ANNOTATIONS: ${reason}`);
  });
});
