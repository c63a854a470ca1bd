/** A Debian to install into without booting it: an overlay on the file system of machines, for chroot, rpm --root and the like. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { baseFileSystem, machineHome, type Outcome } from "./machine.ts";

export class RootDirectory implements Disposable {
  readonly path: string;
  readonly #directory: string;
  readonly #mounted: string[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
    this.path = join(directory, "root");
  }

  static async make(): Promise<RootDirectory> {
    const base = await baseFileSystem();
    const made = new RootDirectory(mkdtempSync(join(machineHome, "root-")));
    const part = (name: string) => join(made.#directory, name);
    for (const name of ["upper", "work", "root"]) mkdirSync(part(name));
    execFileSync("mount", [
      "-t",
      "overlay",
      "overlay",
      "-o",
      `lowerdir=${base},upperdir=${part("upper")},workdir=${part("work")}`,
      made.path,
    ]);
    made.#mounted.push(made.path);
    // By it a program finds what lies beside it.
    execFileSync("mount", ["-t", "proc", "proc", part("root/proc")]);
    made.#mounted.push(part("root/proc"));
    return made;
  }

  /** Shows a directory of the host inside, read-only. */
  show(directory: string, at: string): void {
    const inside = join(this.path, at);
    mkdirSync(inside, { recursive: true });
    execFileSync("mount", ["--bind", "-o", "ro", directory, inside]);
    this.#mounted.push(inside);
  }

  /** Runs a script of sh inside. */
  sh(script: string): Outcome {
    const env = { PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
    const { status, stdout, stderr } = spawnSync("chroot", [this.path, "sh", "-ec", script], { encoding: "utf8", env });
    return { code: status ?? 137, stdout, stderr };
  }

  [Symbol.dispose](): void {
    for (const path of this.#mounted.reverse()) {
      if (spawnSync("umount", [path], { stdio: "ignore" }).status !== 0) spawnSync("umount", ["-l", path], { stdio: "ignore" });
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
