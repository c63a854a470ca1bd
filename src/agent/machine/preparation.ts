/**
 * What a machine lacks after a reboot, or when the operator only copied files: the directory of secrets in /run, a token that is its
 * user's alone, and a kernel that moves connections at a hand-over. Runs as root in directories of an unprivileged user, so it follows no link and touches nothing but these by name.
 */
import { constants } from "node:fs";
import { chmod, lchown, mkdir, open, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { log } from "../../lib/log.ts";

const scope = log.scope("machine");

const migrateRequestsFile = "/proc/sys/net/ipv4/tcp_migrate_req";

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** `certificates`: `…/etc/certs`. `tokenFile`: `…/var/run/secrets/tokens/istio-token`; need not exist. */
export async function prepareSecrets(certificates: string, tokenFile: string, { uid, gid }: User): Promise<void> {
  const tokens = dirname(tokenFile);
  for (const directory of [certificates, tokens]) await makeDirectory(directory, { uid, gid });
  for (const directory of [dirname(tokens), tokens]) await lchown(directory, uid, gid);
  await using file = await openOwn(tokenFile);
  if (!file) return;
  const { mode, nlink } = await file.stat();
  // Two names: one of them may be somebody else's file.
  if (nlink !== 1) return scope.warn("the token has a second name, and is left as it is", { file: tokenFile });
  await file.chown(uid, gid);
  await file.chmod(0o600);
  if (mode & 0o077) scope.info("the token is no longer for all to read", { file: tokenFile });
}

/** With those above it, which the user must get through too; others may have secrets there. Whatever the umask of the unit. */
async function makeDirectory(path: string, user: User): Promise<void> {
  const above = dirname(path);
  if (above !== path) await makeDirectory(above, user);
  try {
    await mkdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return;
  }
  await lchown(path, user.uid, user.gid);
  await chmod(path, 0o755);
}

/**
 * When a process that hands over closes its listeners, connections that it has not accepted yet go to its successor's; the kernel's default is to
 * reset them. Of the whole machine, but without meaning where nobody shares ports.
 */
export async function migrateRequests(): Promise<void> {
  try {
    await writeFile(migrateRequestsFile, "1");
  } catch (error) {
    scope.info("connections that arrive in the moment of a hand-over may be reset", {
      file: migrateRequestsFile,
      reason: (error as Error).message,
    });
  }
}

async function openOwn(file: string) {
  try {
    return await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code !== "ELOOP") throw error;
    scope.warn("the token is a link, and is left as it is", { file });
    return undefined;
  }
}
