/** A page of the admin interface that is longer than sockets hold: written as its reader takes it, and others are answered meanwhile. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { address } from "../support/static-bootstrap.ts";
import { TopsailProcess } from "../support/topsail.ts";

const clusters = 4000;
/** Nowhere near the page's length, 50 MB. */
const boundMiB = 30;

describe("a page of all statistics of 4,000 clusters", { timeout: 60_000 }, () => {
  let directory: string;
  let proxy: TopsailProcess;
  let admin: number;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "large-pages-"));
    admin = await freePortRow(1);
    const named = Array.from({ length: clusters }, (_, index) => ({ name: `upstream-${index}`, connect_timeout: "1s" }));
    const file = join(directory, "envoy.json");
    writeFileSync(file, JSON.stringify({ admin: { address: address(admin) }, static_resources: { clusters: named } }));
    proxy = new TopsailProcess(["envoy", "-c", file, "--concurrency", "1", "-l", "warning"]);
    await eventually(async () => ((await answerOf("/ready").catch(() => "")) === "LIVE\n" ? true : undefined), "the proxy to be live");
    // What is compiled and kept is so from then on.
    await answerOf("/stats/prometheus");
  }, 60_000);
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  const ask = async (path: string): Promise<IncomingMessage> => {
    const [answer] = (await once(get({ host: "127.0.0.1", port: admin, path, agent: false }), "response")) as [IncomingMessage];
    return answer;
  };
  const textOf = async (answer: IncomingMessage) => Buffer.concat(await Array.fromAsync(answer)).toString();
  const answerOf = async (path: string) => textOf(await ask(path));
  const memoryMiB = (name: "VmRSS" | "VmHWM") =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${proxy.pid}/status`, "utf8"))?.[1]) / 1024;

  it("waits for a reader that has stopped, while others are answered and nobody's memory has the page", async () => {
    writeFileSync(`/proc/${proxy.pid}/clear_refs`, "5"); // the peak counts from here on
    const before = memoryMiB("VmRSS");
    const answer = await ask("/stats/prometheus");
    answer.pause();
    expect(await answerOf("/ready")).toBe("LIVE\n");
    expect(await answerOf("/stats?filter=^cluster_manager.active_clusters$")).toBe(`cluster_manager.active_clusters: ${clusters}\n`);
    const page = await textOf(answer);
    expect(memoryMiB("VmHWM") - before).toBeLessThan(boundMiB);
    expect(page.length).toBeGreaterThan(40_000_000);
    const lines = page.split("\n");
    expect(lines.filter((line) => line.startsWith("envoy_cluster_upstream_rq_total{"))).toHaveLength(clusters);
    expect(lines.filter((line) => line.startsWith("envoy_cluster_upstream_rq_time_count{"))).toHaveLength(clusters);
  });
});
