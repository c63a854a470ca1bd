import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePortRow } from "../support/ports.ts";

const root = join(import.meta.dirname, "..", "..");

describe("npm start", () => {
  it("serves the book page within seconds when everything is built, and ends when it is told to", { timeout: 60_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "npm-start-"));
    const port = await freePortRow(11);
    const child = spawn("npm", ["start", "--", "--ports-from", String(port), "--dir", join(directory, "config")], {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
      // A group of its own, so that it can be interrupted as a terminal does: all of it at once.
      detached: true,
    });
    const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    try {
      const started = Date.now();
      await new Promise<void>((resolve, reject) => {
        child.stdout.on("data", (chunk: Buffer) => String(chunk).includes("Ctrl-C stops everything.") && resolve());
        void exited.then((code) => reject(new Error(`npm start ended with ${code}`)));
      });
      expect(Date.now() - started).toBeLessThan(20_000);
      const answer = await fetch(`http://127.0.0.1:${port}/productpage`);
      expect(answer.status).toBe(200);
      expect(await answer.text()).toContain("★★★★★");
    } finally {
      process.kill(-child.pid!, "SIGINT"); // as a terminal's Ctrl-C: the whole group
      await exited;
      rmSync(directory, { recursive: true, force: true });
    }
    await expect
      .poll(
        () =>
          fetch(`http://127.0.0.1:${port}/`).then(
            () => "up",
            () => "down",
          ),
        { timeout: 10_000 },
      )
      .toBe("down");
  });
});
