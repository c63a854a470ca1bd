import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { watchFile } from "./watch-file.ts";

describe("watchFile", () => {
  const directory = mkdtempSync(join(tmpdir(), "watch-file-"));
  afterEach(() => {
    vi.useRealTimers();
    rmSync(directory, { recursive: true });
  });

  it("tells of a file when it has been left alone for as long as it is told", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const onChange = vi.fn();
    using _ = watchFile(join(directory, "a.pem"), onChange, 700);
    writeFileSync(join(directory, "b.pem"), "another");
    writeFileSync(join(directory, "a.pem"), "one");
    while (vi.getTimerCount() === 0) await new Promise(setImmediate);
    vi.advanceTimersByTime(699);
    expect(onChange).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(onChange).toHaveBeenCalledOnce();
  });
});
