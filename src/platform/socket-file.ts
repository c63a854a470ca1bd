/**
 * The path of a Unix socket, which another process may take over: it is replaced in one go, so that whoever connects finds one of the two, and
 * taken away only by the one whose socket it still is.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, rename, rm, stat } from "node:fs/promises";
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
    // Nobody else's: Node removes the name that it has bound when it closes it, whosever it is by then.
    const bound = besides(path);
    await bind(bound);
    const { ino } = await stat(bound, { bigint: true });
    await rename(bound, path);
    return new SocketFile(path, ino);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if ((await inodeOf(this.#path)) !== this.#inode) return;
    // Between a look at the path and its removal another may take it, so that what is removed is looked at once more.
    const aside = besides(this.#path);
    await rename(this.#path, aside).catch(ignore("ENOENT"));
    const removed = await inodeOf(aside);
    if (removed !== undefined && removed !== this.#inode) await link(aside, this.#path).catch(ignore("EEXIST"));
    await rm(aside, { force: true });
  }
}

/** Short: a socket's path has room for 107 characters. */
function besides(path: string): string {
  return `${path}.${randomBytes(3).toString("hex")}`;
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  return (await stat(path, { bigint: true }).catch(ignore("ENOENT")))?.ino;
}

function ignore(code: string): (error: NodeJS.ErrnoException) => undefined {
  return (error) => {
    if (error.code !== code) throw error;
  };
}
