/**
 * dnf, as Debian packages it, with one repository of ours and into a root directory of its own. What our packages need of a distribution is a
 * package that says it has all of it: there is no Red Hat here to install from.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requireTools } from "../../packaging/tools.ts";
import type { Outcome } from "./machine.ts";

/** Why there is none here; undefined: there is. */
export function dnfProblem(): string | undefined {
  try {
    requireTools(["dnf", "createrepo_c", "rpmbuild"]);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

export interface DnfOptions {
  /** For repository definitions, caches and the stand-in of a distribution. */
  readonly directory: string;
  /** Into which is installed. */
  readonly root: string;
  /** As `packaging/repositories.ts` makes it. */
  readonly repository: string;
  /** Default `topsail.asc` of the repository. */
  readonly key?: string;
  /** Whether the repository's own signature is asked for as well as the packages'; default true. */
  readonly checksMetadata?: boolean;
}

/** Runs `dnf WORDS`. */
export function dnf(options: DnfOptions, ...words: readonly string[]): Outcome {
  const { directory, root, repository, key = join(repository, "topsail.asc"), checksMetadata = true } = options;
  const settings = (name: string, values: Record<string, string | number>) =>
    [`[${name}]`, ...Object.entries({ name, enabled: 1, ...values }).map(([field, value]) => `${field}=${value}`), ""].join("\n");
  mkdirSync(join(directory, "repos"), { recursive: true });
  const ours = { baseurl: `file://${repository}`, gpgcheck: 1, repo_gpgcheck: checksMetadata ? 1 : 0, gpgkey: `file://${key}` };
  const distribution = { baseurl: `file://${distributionOf(directory, repository)}`, gpgcheck: 0 };
  writeFileSync(join(directory, "repos", "all.repo"), settings("topsail", ours) + settings("distribution", distribution));
  const flags = ["--assumeyes", "--noplugins", `--installroot=${root}`, "--releasever=9", "--forcearch=x86_64"];
  const places = {
    reposdir: join(directory, "repos"),
    cachedir: join(directory, "cache"),
    logdir: directory,
    persistdir: join(directory, "state"),
  };
  const set = Object.entries({ ...places, install_weak_deps: "False", keepcache: "False" }).map(
    ([name, value]) => `--setopt=${name}=${value}`,
  );
  const { status, stdout, stderr } = spawnSync("dnf", [...flags, ...set, ...words], {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C" },
  });
  return { code: status ?? 137, stdout, stderr };
}

/** Made once a directory. */
function distributionOf(directory: string, repository: string): string {
  const made = join(directory, "distribution");
  const requirements = execFileSync("sh", ["-c", 'rpm --query --requires --package "$1"/*.x86_64.rpm', "sh", repository], {
    encoding: "utf8",
  });
  const provided = [...new Set(requirements.split("\n").map((line) => line.trim()))].filter((line) => line && !line.startsWith("rpmlib("));
  // What needs "at least" is answered by just that.
  const provides = provided.map((line) => `Provides: ${line.replace(/ >=? /, " = ")}`);
  mkdirSync(made, { recursive: true });
  const head = ["Name: distribution", "Version: 9", "Release: 1", "Summary: What a distribution has", "License: none", "BuildArch: noarch"];
  writeFileSync(join(made, "distribution.spec"), [...head, ...provides, "%description", "All of it.", "%files", ""].join("\n"));
  execFileSync(
    "rpmbuild",
    ["-bb", "--quiet", "--define", `_rpmdir ${made}`, "--define", `_topdir ${join(made, "build")}`, join(made, "distribution.spec")],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  execFileSync("createrepo_c", ["--quiet", made]);
  return made;
}
