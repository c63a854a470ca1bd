/** The packages of this work tree, built when a test wants them. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Machine } from "./machine.ts";

const root = join(import.meta.dirname, "..", "..");
export const packagesDirectory = join(root, "dist", "packages");

/** Why there can be none here; undefined: there can. */
export function packagingProblem(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  return spawnSync("apt-get", ["--version"]).status === 0 ? undefined : "needs Debian's apt";
}

/** `npm run package` with these words, without building the executable again; test files that want it at once wait for each other. */
export async function buildPackages(args: readonly string[]): Promise<void> {
  mkdirSync(join(root, "build", "packages"), { recursive: true });
  const command = [join(root, "build", "packages", "lock"), process.execPath, join(root, "packaging", "main.ts"), ...args];
  const child = spawn("flock", command, { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`packaging ended with ${code}: ${complaint}`);
}

/** File of a .deb by its name without a version. */
export function debOf(name: string): string {
  return join(packagesDirectory, `${name}.deb`);
}

/** By dpkg alone: what it needs has to be there. */
export async function install(machine: Machine, name: string): Promise<void> {
  await machine.push(debOf(name), `/root/${name}.deb`);
  await machine.sh(`dpkg -i /root/${name}.deb`, { timeoutMs: 120_000 });
}

export interface RepackedPackage extends Disposable {
  readonly file: string;
}

/** The same package by another version: packed again, without packing much. */
export function anotherVersion(file: string, version: string): RepackedPackage {
  const directory = mkdtempSync(join(tmpdir(), "package-"));
  const content = join(directory, "content");
  execFileSync("dpkg-deb", ["--raw-extract", file, content]);
  execFileSync("sed", ["-i", `s/^Version: .*/Version: ${version}/`, join(content, "DEBIAN/control")]);
  const made = join(directory, "new.deb");
  execFileSync("dpkg-deb", ["--root-owner-group", "-Znone", "--build", content, made], { stdio: "ignore" });
  rmSync(content, { recursive: true });
  return { file: made, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}
