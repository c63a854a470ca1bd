/**
 * Gives back what only start-up needed.
 *
 * Loading a program leaves a heap that has grown for garbage, and pages of the executable that were read once. A gateway then sits
 * on them for months. A full collection after loading shrinks the heap; and the kernel is told to take the executable's pages
 * out of the process: it brings those that are used back from its page cache, one by one, without reading the disk.
 */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** All three, for a process that has come up. */
export function releaseMemory(): void {
  shrinkHeap();
  trimAllocator();
  dropExecutablePages();
}

/** What buffers were in, which libc keeps for the next ones. Does nothing where libc can't be asked. */
export function trimAllocator(): void {
  try {
    const { dlopen } = process.getBuiltinModule("node:ffi");
    using library = dlopen("libc.so.6", { malloc_trim: { return: "int32", arguments: ["uint64"] } });
    library.functions.malloc_trim(0n);
  } catch {
    // Memory that can't be given back is no reason to fail.
  }
}

/** Collects the heap of the calling thread, as small as it gets. Takes some ten milliseconds. */
export function shrinkHeap(): void {
  // The flag puts `gc` into contexts that are made while it is set. It is the whole process's, and workers come up at the same time:
  // whoever took it back could take it from another, so it stays.
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}

/** MADV_DONTNEED of <sys/mman.h>; the same on all of Linux's architectures that we build for. */
const dontNeed = 4;

/** Drops the executable's clean pages from this process. Does nothing where /proc or the system call are not to be had. */
export function dropExecutablePages(): void {
  try {
    // Loaded here: it is experimental, and what does not use it need not hear so.
    const { dlopen } = process.getBuiltinModule("node:ffi");
    using library = dlopen("libc.so.6", { madvise: { return: "int32", arguments: ["uint64", "uint64", "int32"] } });
    for (const [from, to] of cleanMappings(readFileSync("/proc/self/smaps", "utf8"), process.execPath)) {
      library.functions.madvise(from, to - from, dontNeed);
    }
    // What matched last is kept with all of its text, a third of a megabyte here.
    /^/.test("");
  } catch {
    // Memory that can't be given back is no reason to fail.
  }
}

/**
 * Address ranges of /proc/self/smaps that hold the file as it is on disk: private, not writable, and with no page of their own.
 * Relocated data has pages of its own, which would be lost.
 */
export function cleanMappings(smaps: string, file: string): [from: bigint, to: bigint][] {
  const found: [bigint, bigint][] = [];
  for (const entry of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const head = /^(?<from>[0-9a-f]+)-(?<to>[0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ [1-9]\d*\s+(?<path>.+)$/m.exec(entry);
    if (head?.groups?.path !== file) continue;
    if (!/^Anonymous:\s+0 kB$/m.test(entry) || !/^Private_Dirty:\s+0 kB$/m.test(entry)) continue;
    found.push([BigInt(`0x${head.groups.from}`), BigInt(`0x${head.groups.to}`)]);
  }
  return found;
}
