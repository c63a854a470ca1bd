import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KeptFiles } from "./kept-files.ts";
import { Troubles } from "./troubles.ts";

describe("KeptFiles", () => {
  let directory: string;
  let troubles: Troubles;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-kept-"));
    troubles = new Troubles();
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  /** One that waits until it is told that there is room. */
  const keep = (files: () => { path: string; content: string; mode: number }[]) => {
    let goOn = Promise.withResolvers<void>();
    const pauses: number[] = [];
    const pause = async (ms: number) => {
      pauses.push(ms);
      await goOn.promise;
      goOn = Promise.withResolvers<void>();
    };
    return { kept: new KeptFiles({ what: "the state", troubles, files, pause }), pauses, goOn: () => goOn.resolve() };
  };

  it("replaces none of the files when there is no room for one, leaves nothing behind, and says so", async () => {
    const [first, second] = [join(directory, "first"), join(directory, "second")] as const;
    writeFileSync(first, "old");
    // Where the second file would be made there is something else, which stands for a full disk here.
    const obstacle = `${second}.${process.pid}.new`;
    mkdirSync(obstacle);
    const { kept } = keep(() => [first, second].map((path) => ({ path, content: "new", mode: 0o600 })));
    await kept.save();
    expect(readFileSync(first, "utf8")).toBe("old");
    expect(readdirSync(directory).sort()).toEqual(["first", basename(obstacle)]);
    expect(troubles.present).toEqual([expect.stringMatching(/^the state can't be kept on disk: /)]);
  });

  it("tries again until it can, with what holds by then, and holds nobody up meanwhile", async () => {
    const path = join(directory, "no-directory-yet", "state");
    writeFileSync(join(directory, "no-directory-yet"), "");
    let content = "first";
    const { kept, pauses, goOn } = keep(() => [{ path, content, mode: 0o600 }]);
    await kept.save();
    content = "second";
    await kept.save();
    goOn();
    await expect.poll(() => pauses).toEqual([1000, 2000]);
    rmSync(join(directory, "no-directory-yet"));
    goOn();
    await expect.poll(() => troubles.present).toEqual([]);
    expect(readFileSync(path, "utf8")).toBe("second");
  });
});
