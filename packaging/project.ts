/** Where things are, and which build this is. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "..");
export const at = (...parts: readonly string[]) => join(root, ...parts);

export type Architecture = "amd64" | "arm64";
export const architectures: readonly Architecture[] = ["amd64", "arm64"];
export const ownArchitecture: Architecture = process.arch === "arm64" ? "arm64" : "amd64";

export interface Manifest {
  readonly version: string;
  readonly optionalDependencies: Readonly<Record<string, string>>;
}

export const manifest = JSON.parse(readFileSync(at("package.json"), "utf8")) as Manifest;

/** Seconds: the time of the last commit, so that the same source gives the same packages. */
export function sourceDate(): string {
  const { stdout, status } = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" });
  return status === 0 && /^\d+\s*$/.test(stdout) ? stdout.trim() : "0";
}

export const maintainer = "Topsail <packages@topsail.invalid>";
export const homepage = "https://istio.io/latest/docs/setup/install/virtual-machine/";
