/**
 * What a machine lacks after a reboot, or when the operator only copied files: the directory of secrets in /run, a token that is its
 * user's alone, and a kernel that moves connections at a hand-over. Runs as root in directories of an unprivileged user, so it follows no
 * link of theirs and touches nothing but these by name.
 */
import { constants, existsSync } from "node:fs";
import { open, writeFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { log } from "../../lib/log.ts";
import { openDirectory, type User, within } from "./open-directory.ts";

const scope = log.scope("machine");

const migrateRequestsFile = "/proc/sys/net/ipv4/tcp_migrate_req";

/** `certificates`: `…/etc/certs`. `tokenFile`: `…/var/run/secrets/tokens/istio-token`; need not exist. */
export async function prepareSecrets(certificates: string, tokenFile: string, user: User): Promise<void> {
  // What is there stays as it is, wherever it leads.
  if (!existsSync(certificates)) await (await openDirectory(certificates, user)).close();
  await using secrets = await openDirectory(dirname(dirname(tokenFile)), user);
  await secrets.chown(user.uid, user.gid);
  await using tokens = await openDirectory(dirname(tokenFile), user);
  await tokens.chown(user.uid, user.gid);
  await using file = await openOwn(within(tokens, basename(tokenFile)), tokenFile);
  if (!file) return;
  const { mode, nlink } = await file.stat();
  // Two names: one of them may be somebody else's file.
  if (nlink !== 1) return scope.warn("the token has a second name, and is left as it is", { file: tokenFile });
  await file.chown(user.uid, user.gid);
  await file.chmod(0o600);
  if (mode & 0o077) scope.info("the token is no longer for all to read", { file: tokenFile });
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

async function openOwn(path: string, file: string) {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code !== "ELOOP") throw error;
    scope.warn("the token is a link, and is left as it is", { file });
    return undefined;
  }
}
