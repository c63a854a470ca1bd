/** Files that are replaced as a whole. */
import { open, rename, rm } from "node:fs/promises";

/**
 * Whenever the process or the machine goes down, either the old content is there or the new one. `mode` holds for the new file from
 * its first byte on.
 */
export async function writeWhole(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  await rm(temporary, { force: true }); // a left-over would keep its own mode
  {
    await using file = await open(temporary, "wx", mode);
    await file.writeFile(content);
    await file.sync();
  }
  await rename(temporary, path);
}
