/** CPU and memory of a process and its children, from /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** Linux counts CPU time in hundredths of a second for user programs, whatever the kernel's own tick. */
const ticksPerSecond = 100;

export interface Usage {
  readonly cpuSeconds: number;
  readonly rssMiB: number;
  /** Without pages of files, which many processes may share. */
  readonly anonymousMiB: number;
}

export function usageOf(pid: number): Usage {
  const total = { cpuSeconds: 0, rssMiB: 0, anonymousMiB: 0 };
  for (const one of [pid, ...descendants(pid)]) {
    try {
      const fields = readFileSync(`/proc/${one}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ");
      total.cpuSeconds += (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
      const status = readFileSync(`/proc/${one}/status`, "utf8");
      total.rssMiB += kibibytes(status, "VmRSS") / 1024;
      total.anonymousMiB += kibibytes(status, "RssAnon") / 1024;
    } catch {
      // A child that has ended meanwhile has nothing left to count.
    }
  }
  return total;
}

function kibibytes(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
}

function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ");
      parents.set(Number(entry), Number(fields[1]));
    } catch {
      // Gone since readdir.
    }
  }
  const found: number[] = [];
  const visit = (parent: number) => {
    for (const [child, its] of parents) {
      if (its !== parent) continue;
      found.push(child);
      visit(child);
    }
  };
  visit(pid);
  return found;
}
