import { createServer } from "node:http";
import { networkInterfaces } from "node:os";
import { afterEach, describe, expect, it } from "vitest";
import { askHttp } from "../../test/support/http-ask.ts";
import { StatusServer, type StatusServerOptions } from "./status-server.ts";

let server: StatusServer | undefined;
afterEach(() => server?.[Symbol.asyncDispose]());

async function start(over: Partial<StatusServerOptions> = {}): Promise<number> {
  server = await StatusServer.start({
    host: "0.0.0.0",
    port: 0,
    isReady: async () => true,
    proxyMetricsUrl: undefined,
    application: [],
    applicationHost: "127.0.0.1",
    tellsMetricsLocally: false,
    onQuit: () => {},
    onDrain: async () => {},
    ...over,
  });
  return server.port;
}
const outside = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

describe("the status port", () => {
  it.skipIf(outside === undefined)("tells metrics to this machine alone, where it is told so", async () => {
    const there = (port: number) => askHttp(outside!, port, { line: "GET /metrics", from: outside! }).then(({ status }) => status);
    const here = (port: number) => askHttp("127.0.0.1", port, { line: "GET /metrics" }).then(({ status }) => status);
    expect(await there(await start())).toBe(200);
    await server![Symbol.asyncDispose]();
    const port = await start({ tellsMetricsLocally: true });
    expect([await there(port), await here(port)]).toEqual([403, 200]);
  });

  it("packs what is worth it, for who can unpack it", async () => {
    const port = await start();
    const encoding = async (accept: string, path = "/metrics") =>
      (await askHttp("127.0.0.1", port, { line: `GET ${path}`, headers: { "accept-encoding": accept } })).headers["content-encoding"];
    expect(await encoding("deflate")).toBeUndefined();
    expect(await encoding("gzip;q=0, br")).toBeUndefined();
    // The agent's own page alone is short.
    expect(await encoding("gzip")).toBeUndefined();
    await server![Symbol.asyncDispose]();
    const long = createServer((_, response) => response.end("x_total 1\n".repeat(200)));
    await new Promise<void>((resolve) => long.listen(0, "127.0.0.1", resolve));
    const proxyMetricsUrl = `http://127.0.0.1:${(long.address() as { port: number }).port}/`;
    const second = await start({ proxyMetricsUrl });
    const packed = async (accept: string) =>
      (await askHttp("127.0.0.1", second, { line: "GET /metrics", headers: { "accept-encoding": accept } })).headers["content-encoding"];
    expect([await packed("deflate, gzip;q=0.5"), await packed("gzip;q=0.0"), await packed("br")]).toEqual(["gzip", undefined, undefined]);
    long.closeAllConnections();
    long.close();
  });

  it("takes no more scrapes at a time than it has memory for", async () => {
    const waiting: (() => void)[] = [];
    const slow = createServer((_, response) => void waiting.push(() => response.end("x 1\n")));
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
    const port = await start({ proxyMetricsUrl: `http://127.0.0.1:${(slow.address() as { port: number }).port}/` });
    const scrape = () => askHttp("127.0.0.1", port, { line: "GET /metrics" }).then(({ status }) => status);
    const taken = Array.from({ length: 8 }, scrape);
    await expect.poll(() => waiting.length).toBe(8);
    expect(await scrape()).toBe(503);
    for (const answer of waiting) answer();
    expect(new Set(await Promise.all(taken))).toEqual(new Set([200]));
    slow.closeAllConnections();
    slow.close();
  });
});
