/**
 * Changes to a machine that can be undone. Before anything is changed, what was there is written down in a journal; whoever has the journal
 * can bring it back, also when the process that made the changes is gone.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, mkdir, readFile, rename, rm, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { writeWhole } from "../lib/write-whole.ts";
import { JoinError } from "./join-error.ts";
import { agentDirectories, type Member, type PlannedFile } from "./join-plan.ts";

const run = promisify(execFile);
const agentUser = "istio-proxy";
/** What the agent writes into directories that are not its own: of these too there may have been others. */
const agentsFiles = ["/etc/certs/key.pem", "/etc/certs/cert-chain.pem", "/etc/istio/proxy/grpc-bootstrap.json"];
const agentsDirectories = ["/var/run/secrets/workload-spiffe-uds", "/var/run/secrets/credential-uds"];
const lastGoodFile = "/etc/istio/proxy/last-good";

interface FormerFile {
  readonly path: string;
  /** base64; null: there was none. */
  readonly content: string | null;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

interface FormerDirectory {
  readonly path: string;
  /** Undefined: there was none. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

interface Journal {
  readonly files: readonly FormerFile[];
  readonly directories: readonly FormerDirectory[];
  readonly hadLastGood: boolean;
  readonly wasEnabled: boolean;
  readonly wasActive: boolean;
}

/** Throws JoinError when this is no machine that could join. */
export async function requireMachine({ unit }: Member): Promise<void> {
  if (process.getuid?.() !== 0) throw new JoinError("joining changes files of the system", "run it as root: sudo topsail join ...");
  const { stdout } = await systemctl("show", unit, "--property=LoadState").catch(() => ({ stdout: "" }));
  if (!stdout.includes("loaded")) throw new JoinError(`there is no ${unit} here`, "install the package istio-sidecar first");
  await agentIds();
}

export async function applyPlan(files: readonly PlannedFile[], { unit, root, journal: journalFile }: Member): Promise<void> {
  const ids = await agentIds();
  const below = (paths: readonly string[]) => paths.map((path) => `${root}${path}`);
  const own = below(agentDirectories);
  // Those above come first; what is missing of them is made, and goes with all that is in it.
  const directories = new Set([
    ...below(root === "" ? [] : [""]),
    ...files.map(({ path }) => dirname(path)),
    ...own,
    ...below(agentsDirectories),
  ]);
  const journal: Journal = {
    files: await Promise.all([...files.map(({ path }) => path), ...below(agentsFiles)].map(formerFile)),
    directories: await Promise.all([...directories].map(formerDirectory)),
    hadLastGood: existsSync(`${root}${lastGoodFile}`),
    wasEnabled: await succeeds("is-enabled", "--quiet", unit),
    wasActive: await succeeds("is-active", "--quiet", unit),
  };
  // It holds a former token, perhaps.
  await writeWhole(journalFile, `${JSON.stringify(journal)}\n`, 0o600);
  for (const directory of own) {
    await mkdir(directory, { recursive: true });
    await chown(directory, ids.uid, ids.gid);
  }
  for (const { path, content, mode, isAgents } of files) {
    await mkdir(dirname(path), { recursive: true });
    await writeWhole(path, content, mode);
    if (isAgents) await chown(path, ids.uid, ids.gid);
  }
}

export async function startService({ unit, journal }: Member, signal: AbortSignal): Promise<void> {
  try {
    await systemctl("enable", unit);
    await run("systemctl", ["restart", unit], { signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!existsSync(journal)) throw new JoinError("undone by the guard, before the service had its configuration", `journalctl -u ${unit}`);
    throw new JoinError(`the service does not start: ${messageOf(error)}`, `journalctl -u ${unit}`);
  }
}

/** The changes are to stay, unless somebody is undoing them already: then false. */
export async function confirmChanges({ journal }: Member): Promise<boolean> {
  try {
    await unlink(journal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** Whether there was something to undo. */
export async function rollBack(member: Member): Promise<boolean> {
  const { unit, root } = member;
  const journal = await takeJournal(member);
  if (!journal) return false;
  // First the capture rules, which go with the service: they are what keeps people out.
  await systemctl("stop", unit).catch(() => undefined);
  // A unit whose preparation was cut short is taken for a failed one.
  await systemctl("reset-failed", unit).catch(() => undefined);
  for (const { path, content, mode, uid, gid } of journal.files) {
    if (content === null) {
      await rm(path, { force: true });
      continue;
    }
    await writeWhole(path, Buffer.from(content, "base64"), mode);
    await chown(path, uid, gid);
  }
  if (!journal.hadLastGood) await rm(`${root}${lastGoodFile}`, { force: true });
  for (const { path, owner } of journal.directories.toReversed()) {
    if (owner) await chown(path, owner.uid, owner.gid);
    else await rm(path, { recursive: true, force: true });
  }
  if (!journal.wasEnabled) await systemctl("disable", unit).catch(() => undefined);
  if (journal.wasActive) await systemctl("start", "--no-block", unit).catch(() => undefined);
  await rm(undoingFile(member), { force: true });
  return true;
}

/** The journal's name from then on when somebody undoes what it says: two can't have it, and nobody confirms what is being undone. */
function undoingFile({ journal }: Member): string {
  return journal.replace(/\.json$/, ".undoing.json");
}

/** One that somebody has taken before and did not finish with is taken up again. */
async function takeJournal(member: Member): Promise<Journal | undefined> {
  try {
    await rename(member.journal, undoingFile(member)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    return JSON.parse(await readFile(undoingFile(member), "utf8")) as Journal;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * Rolls back by itself unless the journal is gone by then; lives in a unit of its own, so that neither the end of the session nor of this
 * process keeps it from doing so.
 */
export async function startGuard(executable: readonly string[], afterSeconds: number, member: Member): Promise<void> {
  const guard = guardOf(member);
  const timer = [`--unit=${guard}`, "--collect", `--on-active=${afterSeconds}s`, "--timer-property=AccuracySec=1s"];
  await run("systemctl", ["reset-failed", `${guard}.timer`]).catch(() => undefined);
  await run("systemctl", ["stop", `${guard}.timer`]).catch(() => undefined);
  try {
    await run("systemd-run", [...timer, ...executable, "--roll-back"]);
  } catch (error) {
    throw new JoinError(`nobody could undo the changes if they lock you out: ${messageOf(error)}`);
  }
}

/** In the journal, where whoever has lost a session looks for the reason; there need not be one. */
export async function tellJournal(text: string): Promise<void> {
  await run("logger", ["--tag", "topsail-join", text]).catch(() => undefined);
}

export async function stopGuard(member: Member): Promise<void> {
  await run("systemctl", ["stop", `${guardOf(member)}.timer`]).catch(() => undefined);
}

/** A unit of the member's own: a machine's sidecar and gateway may join at the same time. */
function guardOf({ unit }: Member): string {
  return `istio-join-guard-${unit.replace(/\.service$/, "").replace("@", "-")}`;
}

async function formerFile(path: string): Promise<FormerFile> {
  try {
    const [{ mode, uid, gid }, content] = [await stat(path), await readFile(path)];
    return { path, content: content.toString("base64"), mode: mode & 0o777, uid, gid };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return { path, content: null, mode: 0, uid: 0, gid: 0 };
  }
}

async function formerDirectory(path: string): Promise<FormerDirectory> {
  try {
    const { uid, gid } = await stat(path);
    return { path, owner: { uid, gid } };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return { path, owner: undefined };
  }
}

async function agentIds(): Promise<{ uid: number; gid: number }> {
  try {
    const [, , uid, gid] = (await run("getent", ["passwd", agentUser])).stdout.split(":");
    return { uid: Number(uid), gid: Number(gid) };
  } catch {
    throw new JoinError(`there is no user ${agentUser} here`, "install the package istio-sidecar first");
  }
}

function systemctl(...args: string[]): Promise<{ stdout: string }> {
  return run("systemctl", args, { encoding: "utf8" });
}

function succeeds(...args: string[]): Promise<boolean> {
  return systemctl(...args).then(
    () => true,
    () => false,
  );
}

function messageOf(error: unknown): string {
  const { stderr } = error as { stderr?: string };
  return stderr?.trim() || (error instanceof Error ? error.message : String(error));
}
