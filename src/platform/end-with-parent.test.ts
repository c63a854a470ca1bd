import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";

const module = new URL("./end-with-parent.ts", import.meta.url);
const run = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e"];

describe("endWithParent", () => {
  it("ends a process whose parent is killed, also after it has become another program", async () => {
    const child = `
      const { endWithParent } = await import("${module}");
      if (!endWithParent(process.ppid)) process.exit(1);
      process.execve("/bin/sh", ["sh", "-c", "echo $$; exec sleep 60"]);`;
    const parent = `
      const { spawn } = await import("node:child_process");
      spawn(process.execPath, ${JSON.stringify([...run, child])}, { stdio: "inherit" });`;
    const started: ChildProcess = spawn(process.execPath, [...run, parent], { stdio: ["ignore", "pipe", "inherit"] });
    const [pid] = (await once(started.stdout!, "data")) as [Buffer];
    const grandchild = `/proc/${Number(pid)}`;
    expect(existsSync(grandchild)).toBe(true);
    started.kill("SIGKILL");
    await expect.poll(() => existsSync(grandchild), { timeout: 5000 }).toBe(false);
  });

  it("says when the parent has died already", () => {
    const script = `const { endWithParent } = await import("${module}"); console.log(endWithParent(1), endWithParent(process.ppid));`;
    expect(execFileSync(process.execPath, [...run, script], { encoding: "utf8" })).toBe("false true\n");
  });
});
