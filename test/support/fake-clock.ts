/** A library that gives one process a wall clock of its own, which a test sets while that process runs; Debian's libfaketime. */
import { globSync } from "node:fs";
import { debianTool } from "./debian-tool.ts";

/** Its path; undefined where it can't be had, with the reason on stderr. */
export function fakeClockLibrary(): string | undefined {
  if (!debianTool("faketime", "faketime")) return undefined;
  return globSync("/usr/lib/*/faketime/libfaketime.so.1")[0];
}
