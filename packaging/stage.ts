/** What a package holds, laid out in a directory. */
import { chmodSync, copyFileSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";

export type Entry = {
  /** Absolute path on the machine. */
  readonly path: string;
} & (
  | { readonly kind: "file"; readonly from: string; readonly mode: number }
  | { readonly kind: "text"; readonly text: string; readonly mode: number }
  | { readonly kind: "gzip"; readonly text: string; readonly mode: number }
  | { readonly kind: "link"; readonly to: string }
  | { readonly kind: "directory"; readonly mode: number }
);

export function stage(entries: readonly Entry[], directory: string): void {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  for (const entry of entries) {
    const path = join(directory, entry.path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    switch (entry.kind) {
      case "file":
        // Megabytes that nobody writes to any more need not be there twice.
        if (entry.mode === 0o755) linkOrCopy(entry.from, path);
        else copyFileSync(entry.from, path);
        chmodSync(path, entry.mode);
        break;
      case "text":
        writeFileSync(path, entry.text);
        chmodSync(path, entry.mode);
        break;
      case "gzip":
        writeFileSync(path, gzipSync(entry.text, { level: 9 }));
        chmodSync(path, entry.mode);
        break;
      case "link":
        symlinkSync(entry.to, path);
        break;
      case "directory":
        mkdirSync(path, { recursive: true });
        chmodSync(path, entry.mode);
        break;
      default:
        entry satisfies never;
    }
  }
}

/** What a package of these entries depends on, for `once`. */
export function fingerprintOf(entries: readonly Entry[]): string {
  const small = 1024 * 1024;
  return JSON.stringify(
    entries.map((entry) => {
      if (entry.kind !== "file") return entry;
      const { size, mtimeMs, ino } = statSync(entry.from);
      return [entry, size < small ? readFileSync(entry.from, "utf8") : `${size} ${mtimeMs} ${ino}`];
    }),
  );
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
