import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FilesStore, type FilesStoreOptions } from "./files.ts";
import type { ConfigEvent, ConfigStore } from "./store.ts";

let root: string;
let directory: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "topsail-files-"));
  directory = join(root, "config");
  mkdirSync(directory);
});
afterEach(() => rmSync(root, { recursive: true }));

function entry(name: string, host: string, more = ""): string {
  return `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ${name} }
spec:
  hosts: [${host}]
  resolution: DNS
  ports: [{ number: 80, name: http, protocol: HTTP }]
${more}`;
}

function write(name: string, text: string | Buffer): void {
  mkdirSync(dirname(join(directory, name)), { recursive: true });
  writeFileSync(join(directory, name), text);
}

const start = (options: Partial<FilesStoreOptions> = {}) => FilesStore.start({ directory, ...options });
const hosts = (store: ConfigStore) =>
  store
    .list("ServiceEntry")
    .map((object) => object.spec.hosts[0])
    .sort();
const problems = (store: ConfigStore) => store.problems.map((problem) => problem.describe().replaceAll(`${directory}/`, ""));

/** Waits for the state; fails with what there is instead. */
async function until(check: () => void, deadlineMs = 3000): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  for (;;) {
    try {
      return check();
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

describe("FilesStore", () => {
  it("reads a tree of YAML and JSON with several documents each", async () => {
    write("a.yaml", `${entry("a", "a.com")}---\n# nothing here\n---\n${entry("b", "b.com")}`);
    write("deep/er/c.yml", entry("c", "c.com"));
    write(
      "d.json",
      JSON.stringify({ apiVersion: "v1", kind: "List", items: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "x" } }] }),
    );
    write("README.md", "no configuration");
    write(".git/e.yaml", entry("e", "e.com"));
    await using store = await start();
    expect(problems(store)).toEqual([]);
    expect(hosts(store)).toEqual(["a.com", "b.com", "c.com"]);
    expect(store.list("Namespace").map((object) => object.metadata.name)).toEqual(["x"]);
    expect(store.get({ kind: "ServiceEntry", namespace: "default", name: "b" })?.position).toMatchObject({ line: 11 });
  });

  it("says that the directory is missing", async () => {
    rmSync(directory, { recursive: true });
    await expect(start()).rejects.toThrow(/Cannot read the configuration directory .*config: ENOENT/);
  });

  it("doesn't take the mesh configuration for an object", async () => {
    write("mesh.yaml", "trustDomain: example.org\n");
    write("a.yaml", entry("a", "a.com"));
    await using store = await start({ exclude: [join(directory, "mesh.yaml")] });
    expect(problems(store)).toEqual([]);
    await using other = await start();
    expect(problems(other).join()).toContain("mesh.yaml:1: kind: is missing");
  });

  it("sees a change within a fraction of a second, and says what changed", async () => {
    write("a.yaml", entry("a", "a.com"));
    write("b.yaml", entry("b", "b.com"));
    await using store = await start();
    const events: ConfigEvent[] = [];
    using _watch = store.watch((batch) => events.push(...batch));
    const writtenMs = performance.now();
    write("a.yaml", entry("a", "new.com"));
    write("sub/c.yaml", entry("c", "c.com"));
    await until(() => expect(hosts(store)).toEqual(["b.com", "c.com", "new.com"]), 1500);
    expect(performance.now() - writtenMs).toBeLessThan(1500);
    expect(events.map((event) => [event.type, event.object.metadata.name])).toEqual([
      ["modified", "a"],
      ["added", "c"],
    ]);
    expect(events[0]?.object.metadata.generation).toBe(2);
  });

  it("takes an editor's atomic rename for the change that it is", async () => {
    write("a.yaml", entry("a", "a.com"));
    await using store = await start();
    const before = store.list("ServiceEntry")[0];
    const events: ConfigEvent[] = [];
    using _watch = store.watch((batch) => events.push(...batch));
    write("a.yaml~", entry("a", "other.com"));
    write(".a.yaml.swp", "binary");
    renameSync(join(directory, "a.yaml~"), join(directory, "a.yaml"));
    await until(() => expect(hosts(store)).toEqual(["other.com"]));
    expect(events.map((event) => event.type)).toEqual(["modified"]);
    expect(events[0]?.object.metadata).toMatchObject({
      uid: before?.metadata.uid,
      creationTimestamp: before?.metadata.creationTimestamp,
    });
  });

  it("makes no event of a file that is renamed", async () => {
    write("a.yaml", entry("a", "a.com"));
    await using store = await start();
    const events: ConfigEvent[] = [];
    using _watch = store.watch((batch) => events.push(...batch));
    renameSync(join(directory, "a.yaml"), join(directory, "z.yaml"));
    write("b.yaml", entry("b", "b.com"));
    await until(() => expect(hosts(store)).toEqual(["a.com", "b.com"]));
    write("z.yaml", entry("a", "moved.com"));
    await until(() => expect(hosts(store)).toEqual(["b.com", "moved.com"]));
    expect(events.map((event) => [event.type, event.object.metadata.name])).toEqual([
      ["added", "b"],
      ["modified", "a"],
    ]);
  });

  it("deletes what is gone", async () => {
    write("a.yaml", `${entry("a", "a.com")}---\n${entry("b", "b.com")}`);
    write("c.yaml", entry("c", "c.com"));
    await using store = await start();
    write("a.yaml", entry("b", "b.com"));
    unlinkSync(join(directory, "c.yaml"));
    await until(() => expect(hosts(store)).toEqual(["b.com"]));
  });

  it("leaves the last good version of a broken object in force, and takes the others", async () => {
    write("a.yaml", `${entry("a", "a.com")}---\n${entry("b", "b.com")}`);
    await using store = await start();
    write("a.yaml", `${entry("a", "a2.com", "  wrong: 1\n")}---\n${entry("b", "b2.com")}---\n${entry("c", "c.com")}`);
    await until(() => expect(hosts(store)).toEqual(["a.com", "b2.com", "c.com"]));
    expect(problems(store)).toEqual(['a.yaml:8: ServiceEntry default/a: spec.wrong: unknown field "wrong" in ServiceEntry']);
    write("a.yaml", entry("a", "a3.com"));
    await until(() => expect(hosts(store)).toEqual(["a3.com"]));
    expect(problems(store)).toEqual([]);
  });

  it("keeps all objects of a file in which one can't be made out", async () => {
    write("a.yaml", `${entry("a", "a.com")}---\n${entry("b", "b.com")}`);
    await using store = await start();
    write("a.yaml", `${entry("a", "a2.com")}---\nkind: [ServiceEntry\n`);
    await until(() => expect(hosts(store)).toEqual(["a2.com", "b.com"]));
    expect(problems(store)[0]).toMatch(/^a\.yaml:1\d: is not YAML: /);
  });

  it("refuses an object that breaks Istio's rules", async () => {
    write("a.yaml", entry("Upper", "a.com"));
    await using store = await start();
    expect(hosts(store)).toEqual([]);
    expect(problems(store)[0]).toMatch(/^a\.yaml:3: ServiceEntry default\/Upper: metadata\.name: "Upper" is not a name/);
  });

  it("names both files that hold the same object", async () => {
    write("b.yaml", entry("a", "first.com"));
    await using store = await start();
    write("a.yaml", entry("a", "second.com"));
    await until(() => expect(store.problems).toHaveLength(1));
    expect(problems(store)[0]).toMatch(/^a\.yaml:1: ServiceEntry default\/a: is written twice: the one in b\.yaml:1 is in force$/);
    expect(hosts(store)).toEqual(["first.com"]);
    unlinkSync(join(directory, "b.yaml"));
    await until(() => expect(hosts(store)).toEqual(["second.com"]));
    expect(problems(store)).toEqual([]);
  });

  it("tells of an object that one file holds twice", async () => {
    write("a.yaml", `${entry("a", "first.com")}---\n${entry("a", "second.com")}`);
    await using store = await start();
    expect(hosts(store)).toEqual(["first.com"]);
    expect(problems(store)).toEqual(["a.yaml:9: ServiceEntry default/a: is written twice: the one in a.yaml:1 is in force"]);
  });

  it("follows links that stay in the directory only", async () => {
    writeFileSync(join(root, "secret.yaml"), entry("outside", "outside.com"));
    mkdirSync(join(root, "other"));
    writeFileSync(join(root, "other", "o.yaml"), entry("o", "o.com"));
    symlinkSync(join(root, "secret.yaml"), join(directory, "link.yaml"));
    symlinkSync(join(root, "other"), join(directory, "dir"));
    write(".data/mounted.yaml", entry("m", "mounted.com"));
    symlinkSync(".data/mounted.yaml", join(directory, "mounted.yaml"));
    write("a.yaml", entry("a", "a.com"));
    symlinkSync("a.yaml", join(directory, "same.yaml"));
    symlinkSync(".", join(directory, "loop"));
    await using store = await start();
    expect(hosts(store)).toEqual(["a.com", "mounted.com"]);
    expect(problems(store)).toEqual(["link.yaml:1: is a link that leads out of the directory and isn't followed"]);
  });

  it("isn't led out of the directory by an object's name", async () => {
    write("a.yaml", entry('"../../etc/passwd"', "a.com"));
    await using store = await start();
    expect(store.list()).toEqual([]);
    expect(problems(store)[0]).toContain('"../../etc/passwd" is not a name');
  });

  it("survives what is no configuration at all", async () => {
    write("a.yaml", entry("a", "a.com"));
    write("binary.yaml", Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3]));
    write("latin1.yaml", Buffer.from([0x61, 0x3a, 0xe9, 0xff]));
    write("huge.yaml", Buffer.alloc(17 * 1024 * 1024, 0x20));
    write("empty.yaml", "");
    write("deep.json", "[".repeat(100_000));
    await using store = await start();
    expect(hosts(store)).toEqual(["a.com"]);
    expect(problems(store).sort()).toEqual([
      "binary.yaml:1: is not a text file: byte 4 is zero",
      "deep.json:1: is nested too deeply",
      "huge.yaml:1: is too large: 17.0 MiB, at most 16 MiB are read",
      "latin1.yaml:1: is not a text file: it isn't UTF-8",
    ]);
  });

  it("waits for a file that is emptied before it is written", async () => {
    write("a.yaml", entry("a", "a.com"));
    await using store = await start();
    const events: ConfigEvent[] = [];
    using _watch = store.watch((batch) => events.push(...batch));
    write("a.yaml", "");
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(hosts(store)).toEqual(["a.com"]);
    write("a.yaml", entry("a", "b.com"));
    await until(() => expect(hosts(store)).toEqual(["b.com"]));
    expect(events.map((event) => event.type)).toEqual(["modified"]);
  });

  it("finds changes without notices, by its clock", async () => {
    write("a.yaml", entry("a", "a.com"));
    await using store = await start({ rescanMs: 50 });
    // The directory is another one now, of which the watcher knows nothing.
    renameSync(directory, join(root, "old"));
    mkdirSync(directory);
    write("a.yaml", entry("a", "b.com"));
    await until(() => expect(hosts(store)).toEqual(["b.com"]));
  });

  it("keeps creation times over restarts when it has a data directory", async () => {
    const dataDir = join(root, "data");
    write("a.yaml", entry("a", "a.com"));
    let born: unknown;
    {
      await using store = await start({ dataDir });
      born = store.list("ServiceEntry")[0]?.metadata;
    }
    await new Promise((resolve) => setTimeout(resolve, 1100));
    unlinkSync(join(directory, "a.yaml"));
    write("a.yaml", entry("a", "a.com"));
    await using store = await start({ dataDir });
    expect(store.list("ServiceEntry")[0]?.metadata).toMatchObject({
      creationTimestamp: (born as { creationTimestamp: number }).creationTimestamp,
      uid: (born as { uid: string }).uid,
    });
  });

  it("takes a creation time that is written", async () => {
    write("a.yaml", entry("a", "a.com").replace("name: a", 'name: a, creationTimestamp: "2020-01-02T03:04:05Z"'));
    await using store = await start();
    expect(store.list("ServiceEntry")[0]?.metadata.creationTimestamp).toBe(Date.UTC(2020, 0, 2, 3, 4, 5));
  });
});
