/** The tools of Debian that make packages: run them, and where they are missing and this is root, install them. */
import { execFileSync, spawnSync } from "node:child_process";

export class PackagingError extends Error {
  override readonly name = "PackagingError";
}

/** Debian's package, by the command that is wanted of it. */
const packageOf: Readonly<Record<string, string>> = {
  "apt-ftparchive": "apt-utils",
  createrepo_c: "createrepo-c",
  "dpkg-deb": "dpkg",
  gpg: "gnupg",
  mmdebstrap: "mmdebstrap",
  patchelf: "patchelf",
  "qemu-aarch64-static": "qemu-user-static",
  rpmbuild: "rpm",
  rpmsign: "rpm",
  "aarch64-linux-gnu-strip": "binutils-aarch64-linux-gnu",
};

function isThere(command: string): boolean {
  return spawnSync("sh", ["-c", 'command -v "$1"', "sh", command], { stdio: "ignore" }).status === 0;
}

/** Throws PackagingError, with what would help, when one can't be had. */
export function requireTools(commands: readonly string[]): void {
  const missing = commands.filter((command) => !isThere(command));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((command) => packageOf[command] ?? command))];
  const byHand = `apt-get install --no-install-recommends ${packages.join(" ")}`;
  if (process.getuid?.() !== 0 || !isThere("apt-get")) throw new PackagingError(`${missing.join(", ")} not found: ${byHand}`);
  console.error(`topsail: installing ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = () => spawnSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], { env, encoding: "utf8" });
  let result = install();
  if (result.status !== 0) {
    spawnSync("apt-get", ["update", "-qq"], { env });
    result = install();
  }
  if (result.status !== 0 || commands.some((command) => !isThere(command)))
    throw new PackagingError(`cannot install ${packages.join(" ")}: ${result.stderr.trim().split("\n").at(-1)}; try: ${byHand}`);
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
}

/** Resolves to what the tool prints. Throws PackagingError with what it complains of. */
export function runTool(command: string, args: readonly string[], { cwd, env, input }: RunOptions = {}): string {
  try {
    return execFileSync(command, args, {
      cwd,
      encoding: "utf8",
      env: { ...process.env, ...env },
      input,
      maxBuffer: 64 * 1024 * 1024,
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
  } catch (cause) {
    const { stderr, message } = cause as Error & { stderr?: string };
    const complaint = (stderr || message).trim().split("\n").slice(-8).join("\n");
    throw new PackagingError(`${command} ${args[0] ?? ""}: ${complaint}`, { cause });
  }
}
