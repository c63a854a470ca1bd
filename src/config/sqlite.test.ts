import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, describe, expect, it } from "vitest";
import { SqliteStore } from "./sqlite.ts";
import { describeWritableStore, serviceEntry } from "./store-conformance.ts";

const directories: string[] = [];
function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "topsail-sqlite-"));
  directories.push(directory);
  return directory;
}
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true });
});

describeWritableStore("SqliteStore", () => SqliteStore.start({ dataDir: temporaryDirectory() }));

describe("SqliteStore", () => {
  it("has everything again after a restart", async () => {
    const dataDir = temporaryDirectory();
    let stored: unknown;
    let revision: number;
    {
      await using store = await SqliteStore.start({ dataDir });
      await store.put(serviceEntry("gone", "gone.example.com"));
      stored = await store.put(serviceEntry("a", "a.example.com", { labels: { team: "x" } }));
      await store.delete({ kind: "ServiceEntry", namespace: "default", name: "gone" });
      revision = store.revision;
    }
    await using store = await SqliteStore.start({ dataDir });
    expect(store.list()).toEqual([stored]);
    expect(store.revision).toBe(revision);
    expect(store.problems).toEqual([]);
    const next = await store.put(serviceEntry("b", "b.example.com"));
    expect(Number(next.metadata.resourceVersion)).toBe(revision + 1);
  });

  it("keeps its files to the user alone", async () => {
    const dataDir = join(temporaryDirectory(), "data");
    await using store = await SqliteStore.start({ dataDir });
    await store.put(serviceEntry("a", "a.example.com"));
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    expect(mode(dataDir)).toBe("700");
    expect(mode(join(dataDir, "config.sqlite"))).toBe("600");
    expect(mode(join(dataDir, "config.sqlite-wal"))).toBe("600");
  });

  it("lets one process in at a time", async () => {
    const dataDir = temporaryDirectory();
    await using _first = await SqliteStore.start({ dataDir });
    await expect(SqliteStore.start({ dataDir })).rejects.toThrow(/another process has it open/);
  });

  it("says that a file is no database", async () => {
    const dataDir = temporaryDirectory();
    writeFileSync(join(dataDir, "config.sqlite"), "x".repeat(10_000));
    await expect(SqliteStore.start({ dataDir })).rejects.toThrow(/config\.sqlite: it is damaged/);
  });

  it("writes no more once it is closed", async () => {
    const store = await SqliteStore.start({ dataDir: temporaryDirectory() });
    const pending = store.put(serviceEntry("a", "a.example.com"));
    await store[Symbol.asyncDispose]();
    await expect(pending).resolves.toMatchObject({ metadata: { name: "a" } });
    await expect(store.put(serviceEntry("b", "b.example.com"))).rejects.toMatchObject({ code: "unavailable" });
  });

  it("loses nothing that was acknowledged to kill -9, 200 times", { timeout: 300_000 }, async () => {
    const lanes = await Promise.all([killAgainAndAgain(temporaryDirectory(), 100), killAgainAndAgain(temporaryDirectory(), 100)]);
    for (const lane of lanes) {
      expect(lane.kills).toBe(100);
      expect(lane.acknowledged).toBeGreaterThan(200);
    }
  });
});

/** Writes numbered hosts to eight objects in turn, two at a time, and prints each number once its write is acknowledged. */
const writer = `
import { SqliteStore } from ${JSON.stringify(join(import.meta.dirname, "sqlite.ts"))};
import { decodeObject } from ${JSON.stringify(join(import.meta.dirname, "../api/documents/decode-object.ts"))};
const [dataDir, first] = process.argv.slice(1);
const store = await SqliteStore.start({ dataDir });
const write = async (number) => {
  const spec = { hosts: ["n" + number + ".example.com"], resolution: "DNS" };
  const metadata = { name: "s-" + (number % 8) };
  await store.put(decodeObject({ apiVersion: "networking.istio.io/v1", kind: "ServiceEntry", metadata, spec }).object);
  process.stdout.write(number + "\\n");
};
for (let number = Number(first); ; number += 2) await Promise.all([write(number), write(number + 1)]);
`;

async function killAgainAndAgain(dataDir: string, rounds: number): Promise<{ kills: number; acknowledged: number }> {
  const latest = new Map<number, number>();
  let next = 0;
  let kills = 0;
  let acknowledged = 0;
  for (let round = 0; round < rounds; round++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", writer, dataDir, String(next)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let isDoomed = false;
    for await (const line of createInterface(child.stdout)) {
      const number = Number(line);
      latest.set(number % 8, number);
      next = Math.max(next, number + 1);
      acknowledged++;
      if (!isDoomed) setTimeout(() => child.kill("SIGKILL"), Math.random() * 25);
      isDoomed = true;
    }
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
    if (child.signalCode === "SIGKILL") kills++;

    await using store = await SqliteStore.start({ dataDir });
    expect(store.problems).toEqual([]);
    for (const [index, number] of latest) {
      const host = store.get({ kind: "ServiceEntry", namespace: "default", name: `s-${index}` })?.spec.hosts[0] ?? "";
      // A later number may have got to the disk without its acknowledgement getting to us; an earlier one may not stand there.
      expect(Number(/^n(\d+)/.exec(host)?.[1])).toBeGreaterThanOrEqual(number);
    }
    next += 8;
  }
  return { kills, acknowledged };
}
