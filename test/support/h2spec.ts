/** h2spec, built from Go's registry once and kept in build/. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const directory = join(import.meta.dirname, "..", "..", "build", "h2spec");
const version = "v2.2.1+incompatible";

/** `problem`: why there is none. */
export function h2specProgram(): { readonly program?: string; readonly problem?: string } {
  const program = join(directory, "h2spec");
  if (existsSync(program)) return { program };
  const go = ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"].find((candidate) => spawnSync(candidate, ["version"]).status === 0);
  if (go === undefined) return { problem: "no Go to build it: apt-get install golang" };
  mkdirSync(directory, { recursive: true });
  const { status, stderr } = spawnSync(go, ["install", `github.com/summerwind/h2spec/cmd/h2spec@${version}`], {
    env: { ...process.env, GOBIN: directory, GOFLAGS: "-mod=mod" },
    encoding: "utf8",
    timeout: 240_000,
  });
  return status === 0 && existsSync(program) ? { program } : { problem: `it can't be built: ${stderr.trim().split("\n").at(-1)}` };
}
