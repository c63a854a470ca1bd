/**
 * The path of a Unix socket, which another process may take over: it is replaced in one go, so that whoever connects finds one of the two, and
 * taken away only by the one whose socket it still is.
 */
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";

export class SocketFile implements AsyncDisposable {
  readonly #path: string;
  readonly #inode: bigint;

  private constructor(path: string, inode: bigint) {
    this.#path = path;
    this.#inode = inode;
  }

  /** `bind` listens on the path that it is given, which is not yet the one that is wanted. Directories above are made for this user alone. */
  static async make(path: string, bind: (path: string) => Promise<void>): Promise<SocketFile> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // Node removes what it has bound when it closes it, whosever it is by then.
    const bound = `${path}.new`;
    await rm(bound, { force: true });
    await bind(bound);
    await rename(bound, path);
    return new SocketFile(path, await inodeOf(path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const present = await inodeOf(this.#path).catch(() => undefined);
    if (present === this.#inode) await rm(this.#path, { force: true });
  }
}

async function inodeOf(path: string): Promise<bigint> {
  return (await stat(path, { bigint: true })).ino;
}
