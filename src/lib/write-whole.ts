/** Files that are replaced as a whole. */
import { open, rename, rm } from "node:fs/promises";

export interface WholeFile {
  readonly path: string;
  readonly content: string | Uint8Array;
  /** Holds from the first byte on. */
  readonly mode: number;
}

/** Whenever the process or the machine goes down, either the old content is there or the new one. */
export async function writeWhole(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  await writeTogether([{ path, content, mode }]);
}

/**
 * The same for files that belong together: none is replaced before there was room for all of them. What could not be written leaves nothing
 * behind, least of all on a disk that is full.
 */
export async function writeTogether(files: readonly WholeFile[]): Promise<void> {
  const written = files.map(({ path }) => ({ path, temporary: `${path}.${process.pid}.new` }));
  try {
    for (const [index, { content, mode }] of files.entries()) await writeNew(written[index]!.temporary, content, mode);
    for (const { path, temporary } of written) await rename(temporary, path);
  } catch (error) {
    for (const { temporary } of written) await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}

async function writeNew(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  await rm(path, { force: true }); // a left-over would keep its own mode
  await using file = await open(path, "wx", mode);
  await file.writeFile(content);
  await file.sync();
}
