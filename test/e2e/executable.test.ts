import { cpSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { binary, runTopsail } from "../support/topsail.ts";

let alone: string;

beforeAll(() => {
  alone = mkdtempSync(join(tmpdir(), "topsail-alone-"));
  cpSync(binary, join(alone, "topsail"));
});

afterAll(() => rmSync(alone, { recursive: true, force: true }));

describe("dist/topsail", () => {
  it("is one file of less than 160 MB", () => {
    expect(statSync(binary).size).toBeLessThan(160e6);
  });

  it("runs alone in an empty directory, without Node and without an environment", () => {
    const { status, stdout } = runTopsail(["version"], { executable: join(alone, "topsail"), cwd: alone, env: {} });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^topsail \d+\.\d+\.\d+ \([0-9a-f]{12}\), Node\.js v26\./);
  });

  it("is the program whose name a symbolic link bears", () => {
    for (const program of ["istiod", "pilot-agent", "envoy", "istioctl"]) {
      symlinkSync(join(alone, "topsail"), join(alone, program));
      const { status, stdout } = runTopsail(["--help"], { executable: join(alone, program) });
      expect([program, status]).toEqual([program, 0]);
      expect(stdout.toLowerCase()).toContain(program === "envoy" ? "--config-path" : program);
    }
  });

  it.each(["istiod", "pilot-agent", "envoy", "istioctl", "quickstart", "sample"])("helps with %s", (program) => {
    const { status, stdout } = runTopsail([program, "--help"]);
    expect(status).toBe(0);
    expect(stdout.length).toBeGreaterThan(100);
  });

  it("says what programs there are", () => {
    const { status, stdout } = runTopsail(["--help"]);
    expect(status).toBe(0);
    for (const program of ["istiod", "pilot-agent", "envoy", "istioctl", "quickstart", "sample"]) expect(stdout).toContain(program);
  });

  it("refuses a program that it does not have", () => {
    const { status, stderr } = runTopsail(["frobnicate"]);
    expect(status).toBe(2);
    expect(stderr).toContain('unknown program "frobnicate"');
  });
});
