import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { log } from "../lib/log.ts";
import { StatsReader } from "./stats/stats-reader.ts";
import { staticWorker } from "./testing/static-update.ts";
import { WorkerGroup } from "./worker-group.ts";

const bootstrap = (accessLog: string) => `
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    access_log:
    - name: envoy.access_loggers.file
      typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: ${accessLog}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: web, cluster: nowhere}
`;

describe("WorkerGroup", () => {
  it("is alive while every worker answers, and not while one hangs", async () => {
    const directory = mkdtempSync(join(tmpdir(), "worker-group-"));
    const pipe = join(directory, "access.log");
    // Whoever opens it for writing hangs until somebody reads.
    execFileSync("mkfifo", [pipe]);
    const { data, update } = staticWorker(bootstrap(pipe));
    const group = WorkerGroup.start({ concurrency: 2, data, stats: new StatsReader(), log });
    try {
      await group.checkAlive();
      const applied = group.update({ listeners: update.listeners! });
      let isAlive = false;
      const answered = group.checkAlive().then(() => {
        isAlive = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(isAlive).toBe(false);
      expect(group.checkAlive()).toBe(group.checkAlive()); // asked once, however often
      const reader = openSync(pipe, "r+");
      await applied;
      await answered;
      closeSync(reader);
      await group.checkAlive();
    } finally {
      await group[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
