import type { BigIntStats } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { ConfigError } from "../api/config-error.ts";

/** Bounds on a tree, so that a directory named by mistake (`/`) is told and not read for minutes. */
const maxDepth = 32;
const maxFiles = 20_000;

const extensions = new Set([".yaml", ".yml", ".json"]);

export interface FoundFile {
  readonly path: string;
  /** Changes whenever the content may have changed. */
  readonly signature: string;
  readonly size: number;
  readonly modifiedMs: number;
  /** When the file came to be, as far as the file system knows. */
  readonly createdMs: number;
}

export interface FoundFiles {
  readonly files: readonly FoundFile[];
  readonly problems: readonly ConfigError[];
}

/**
 * Finds the configuration files under a directory, in the order of their paths: regular files ending in .yaml, .yml or .json.
 * Hidden names are left out, which holds for most editors' temporary files too. Links to directories aren't followed; a link
 * to a file is, if it stays in the tree and the file isn't read under its own name anyway (a mounted ConfigMap looks so).
 */
export async function walkDirectory(root: string, excluded: ReadonlySet<string>): Promise<FoundFiles> {
  const files: FoundFile[] = [];
  const problems: ConfigError[] = [];
  const realRoot = await realpath(root);
  const problem = (path: string, message: string, cause?: unknown) => {
    problems.push(new ConfigError(message, { position: { file: path, line: 1 }, cause }));
  };

  const visit = async (directory: string, depth: number): Promise<void> => {
    if (depth > maxDepth) return problem(directory, `is more than ${maxDepth} directories deep and isn't read`);
    const entries = await readdir(directory, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || depth === 0) problem(directory, `can't be read: ${error.code ?? error.message}`, error);
      return [];
    });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      if (entry.name.startsWith(".") || files.length > maxFiles) continue;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) await visit(path, depth + 1);
      else if (extensions.has(extname(entry.name)) && (entry.isFile() || entry.isSymbolicLink()))
        await addFile(path, entry.isSymbolicLink());
    }
  };

  const addFile = async (path: string, isLink: boolean): Promise<void> => {
    try {
      // Directories on the way are no links, so that only the file itself can be one.
      const target = isLink ? await realpath(path) : realRoot + path.slice(root.length);
      if (isLink) {
        if (!target.startsWith(realRoot + sep)) return problem(path, "is a link that leads out of the directory and isn't followed");
        if (isReadByItself(target.slice(realRoot.length + 1))) return;
      }
      const found = isLink ? await stat(path, { bigint: true }) : await lstat(path, { bigint: true });
      if (found.isFile() && !excluded.has(target)) files.push(describeFile(path, found));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Gone since the directory was listed; the next walk sees what became of it.
      if (code !== "ENOENT") problem(path, `can't be read: ${code ?? String(error)}`, error);
      else if (isLink) problem(path, "is a link to nothing");
    }
  };

  await visit(root, 0);
  if (files.length > maxFiles) problem(root, `holds more than ${maxFiles} files; the rest isn't read`);
  return { files, problems };
}

function isReadByItself(relativePath: string): boolean {
  return extensions.has(extname(relativePath)) && !relativePath.split(sep).some((part) => part.startsWith("."));
}

function describeFile(path: string, found: BigIntStats): FoundFile {
  return {
    path,
    signature: `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`,
    size: Number(found.size),
    modifiedMs: Math.max(Number(found.mtimeMs), Number(found.ctimeMs)),
    createdMs: Number(found.birthtimeMs) || Number(found.mtimeMs),
  };
}
