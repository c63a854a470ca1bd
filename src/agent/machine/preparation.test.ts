import { chmodSync, existsSync, lchownSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareSecrets } from "./preparation.ts";

const user = { uid: 4321, gid: 4322 };
const isRoot = process.getuid?.() === 0;
if (!isRoot) process.stderr.write("preparation of machines: skipped: not root\n");

describe.skipIf(!isRoot)("a machine's secrets", () => {
  let home: string;
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "preparation-"));
    chmodSync(home, 0o755);
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  const at = (...names: string[]) => join(home, ...names);
  const prepare = () => prepareSecrets(at("etc", "certs"), at("var", "run", "secrets", "tokens", "istio-token"), user);
  const shown = (...names: string[]) => {
    const { uid, gid, mode } = statSync(at(...names));
    return [uid, gid, (mode & 0o7777).toString(8)];
  };

  it("have their places, which their user can get to, whatever the umask", async () => {
    const before = process.umask(0o077);
    try {
      await prepare();
    } finally {
      process.umask(before);
    }
    for (const way of [
      ["etc"],
      ["etc", "certs"],
      ["var"],
      ["var", "run"],
      ["var", "run", "secrets"],
      ["var", "run", "secrets", "tokens"],
    ]) {
      expect(shown(...way), way.join("/")).toEqual([user.uid, user.gid, "755"]);
    }
  });

  it("are their user's, and the token nobody else's, while directories above stay as they are", async () => {
    mkdirSync(at("var", "run", "secrets", "tokens"), { recursive: true });
    for (const way of [["var"], ["var", "run"]]) chmodSync(at(...way), 0o711);
    writeFileSync(at("var", "run", "secrets", "tokens", "istio-token"), "token", { mode: 0o644 });
    await prepare();
    expect(shown("var", "run")).toEqual([0, 0, "711"]);
    expect(shown("var", "run", "secrets")).toEqual([user.uid, user.gid, "755"]);
    expect(shown("var", "run", "secrets", "tokens", "istio-token")).toEqual([user.uid, user.gid, "600"]);
  });

  it("lie where root's links lead", async () => {
    mkdirSync(at("elsewhere"));
    mkdirSync(at("var"));
    symlinkSync("../elsewhere", at("var", "run"));
    await prepare();
    expect(shown("elsewhere", "secrets", "tokens")).toEqual([user.uid, user.gid, "755"]);
  });

  it("do not lie where their user's links lead: nothing there is made or given to him", async () => {
    mkdirSync(at("elsewhere", "run", "secrets"), { recursive: true });
    symlinkSync("elsewhere", at("var"));
    lchownSync(at("var"), user.uid, user.gid);
    await expect(prepare()).rejects.toThrow(
      `${at("var", "run", "secrets")}: "var" is a link of user ${user.uid}, which root does not follow`,
    );
    expect(shown("elsewhere", "run", "secrets")).toEqual([0, 0, "755"]);
    expect(existsSync(at("elsewhere", "run", "secrets", "tokens"))).toBe(false);
  });

  it("do not run in circles", async () => {
    symlinkSync("var", at("var"));
    await expect(prepare()).rejects.toThrow("too many links");
  });
});
