/** Work that is done again only when what it was made of has changed, as in build.mjs. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { at } from "./project.ts";

/** `from`: what makes a difference. `output` must stand, and is made anew otherwise. */
export function once(name: string, from: readonly (string | Uint8Array)[], output: string, work: () => void): void {
  const hash = createHash("sha256");
  for (const part of from) hash.update(part).update("\0");
  const digest = hash.digest("hex");
  const stamp = at("build", "packages", `${name}.stamp`);
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  rmSync(stamp, { force: true });
  rmSync(output, { recursive: true, force: true });
  mkdirSync(dirname(output), { recursive: true });
  mkdirSync(dirname(stamp), { recursive: true });
  work();
  writeFileSync(stamp, digest);
}
