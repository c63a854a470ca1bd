/** A program from Debian's packages, installed when it is missing and that is possible. */
import { type ExecFileSyncOptions, execFileSync, spawnSync } from "node:child_process";

/** Its path. Undefined where it can't be had, with the reason on stderr; with CI set that is an error. */
export function debianTool(command: string, debianPackage: string): string | undefined {
  const found = pathOf(command);
  if (found !== undefined) return found;
  try {
    if (process.getuid?.() !== 0) throw new Error("only root installs packages");
    const options: ExecFileSyncOptions = {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    };
    execFileSync("apt-get", ["update", "-qq"], options);
    execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", debianPackage], options);
    return pathOf(command) ?? fail(`package ${debianPackage} has no ${command}`);
  } catch (error) {
    const reason = `no ${command}: ${(error as Error).message.split("\n").slice(0, 3).join(" ")}`;
    if (process.env.CI) throw new Error(reason, { cause: error });
    process.stderr.write(`skipped: ${reason}\n`);
    return undefined;
  }
}

function pathOf(command: string): string | undefined {
  const { status, stdout } = spawnSync("sh", ["-c", 'command -v "$1"', "sh", command], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

function fail(message: string): never {
  throw new Error(message);
}
