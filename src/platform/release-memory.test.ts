import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { cleanMappings } from "./release-memory.ts";

const entry = (range: string, permissions: string, path: string, anonymous: number, dirty = 0) =>
  `${range} ${permissions} 00001000 fe:00 ${path ? 4711 : 0}                    ${path}\nSize:  4 kB\nPrivate_Dirty:        ${dirty} kB\nAnonymous:            ${anonymous} kB\nVmFlags: rd\n`;

describe("cleanMappings", () => {
  it("takes what is as on disk, and nothing that was written or relocated", () => {
    const smaps = [
      entry("00400000-00500000", "r--p", "/opt/topsail", 0),
      entry("00500000-00900000", "r-xp", "/opt/topsail", 0),
      entry("00900000-00910000", "r--p", "/opt/topsail", 8),
      entry("00910000-00920000", "r--p", "/opt/topsail", 0, 4),
      entry("00920000-00930000", "rw-p", "/opt/topsail", 0),
      entry("7f0000000000-7f0000001000", "r-xp", "/lib/libc.so.6", 0),
      entry("7f0000002000-7f0000003000", "r--p", "", 0),
    ].join("");
    expect(cleanMappings(smaps, "/opt/topsail")).toEqual([
      [0x400000n, 0x500000n],
      [0x500000n, 0x900000n],
    ]);
  });
});

describe("release-memory", () => {
  it("makes the process smaller, and it lives on", () => {
    const script = `
      const { readFileSync } = await import("node:fs");
      const { shrinkHeap, dropExecutablePages } = await import("${new URL("./release-memory.ts", import.meta.url)}");
      const rss = () => Number(/VmRSS:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
      let garbage = Array.from({ length: 300000 }, (_, index) => ({ index }));
      const before = rss();
      garbage = null;
      shrinkHeap();
      dropExecutablePages();
      const after = rss();
      JSON.parse(JSON.stringify(process.versions));
      console.log(JSON.stringify({ before, after, sees: typeof gc }));`;
    const output = execFileSync(process.execPath, ["--input-type=module", "--disable-warning=ExperimentalWarning", "-e", script], {
      encoding: "utf8",
    });
    const { before, after, sees } = JSON.parse(output) as { before: number; after: number; sees: string };
    expect(after).toBeLessThan(before * 0.8);
    expect(sees).toBe("undefined");
  });

  it("gives back what buffers were in", () => {
    const script = `
      const { readFileSync } = await import("node:fs");
      const { shrinkHeap, trimAllocator } = await import("${new URL("./release-memory.ts", import.meta.url)}");
      const rss = () => Number(/VmRSS:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
      let buffers = Array.from({ length: 4000 }, () => Buffer.alloc(60_000, 1));
      // One in a hundred stays, in the midst of the others.
      buffers = buffers.filter((_, index) => index % 100 === 0);
      shrinkHeap();
      const before = rss();
      trimAllocator();
      console.log(JSON.stringify({ before, after: rss(), kept: buffers.length }));`;
    const output = execFileSync(process.execPath, ["--input-type=module", "--disable-warning=ExperimentalWarning", "-e", script], {
      encoding: "utf8",
    });
    const { before, after } = JSON.parse(output) as { before: number; after: number };
    expect(after).toBeLessThan(before - 50_000);
  });
});
