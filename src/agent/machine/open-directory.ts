/**
 * Directories by a way that nobody but root has laid. A path is looked up anew by each call, and in a directory of an unprivileged user it may
 * lead elsewhere by then; so each step is taken from the directory that was opened before it (openat(2), which /proc/self/fd is for us).
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readlink } from "node:fs/promises";
import { resolve } from "node:path";
import { MachineError } from "./machine-environment.ts";

export interface User {
  readonly uid: number;
  readonly gid: number;
}

const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Of the kernel, MAXSYMLINKS. */
const maxLinks = 40;

/** Makes what is missing, for all to pass through and the user's own, whatever the umask. Throws MachineError for a link that is not root's. */
export async function openDirectory(path: string, user: User): Promise<FileHandle> {
  let left = namesOf(resolve(path));
  let directory = await open("/", flags);
  try {
    for (let links = 0; left.length > 0; ) {
      const [name = "", ...more] = left;
      const next = within(directory, name);
      const found = await ifThere(lstat(next));
      if (found?.isSymbolicLink()) {
        if (found.uid !== 0) throw new MachineError(`${path}: "${name}" is a link of user ${found.uid}, which root does not follow`);
        if (++links > maxLinks) throw new MachineError(`${path}: too many links`);
        const target = await readlink(next);
        if (target.startsWith("/")) directory = await moved(directory, "/");
        left = [...namesOf(target), ...more];
        continue;
      }
      if (found === undefined) await mkdir(next);
      directory = await moved(directory, next);
      if (found === undefined) {
        await directory.chown(user.uid, user.gid);
        await directory.chmod(0o755);
      }
      left = more;
    }
    return directory;
  } catch (error) {
    await directory.close();
    throw error;
  }
}

/** Path of a name in an open directory, wherever that is by now. */
export function within(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}

async function moved(from: FileHandle, to: string): Promise<FileHandle> {
  const next = await open(to, flags);
  await from.close();
  return next;
}

async function ifThere<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}
