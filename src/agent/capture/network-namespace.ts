/** Capture in another network namespace than this process's: the same command, started again inside of it. */
import { spawn } from "node:child_process";
import { readlinkSync, statfsSync } from "node:fs";
import { ownCommand } from "../../lib/own-command.ts";
import { CaptureError, type FlagValues } from "./capture-settings.ts";

/** Of the kernel's files that stand for namespaces. <linux/magic.h> */
const namespaceFileSystem = 0x6e736673;
const flag = "--network-namespace";

export interface NamespaceOptions {
  /** Its file. */
  readonly path: string;
  readonly flags: FlagValues;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Resolves when it has ended well. Throws CaptureError with what it said. */
export async function captureInNamespace({ path, flags, env }: NamespaceOptions): Promise<void> {
  requireNamespace(path);
  const given = Object.entries(flags).filter(([name, value]) => value !== undefined && name !== "network-namespace" && name !== "cni-mode");
  const command = [
    `--net=${path}`,
    "--",
    ...ownCommand(),
    "pilot-agent",
    "istio-iptables",
    ...given.map(([name, value]) => `--${name}=${value}`),
  ];
  // The tools of the legacy kind have one lock for all namespaces that share /run.
  const lock = flags["cni-mode"] === "true" ? { XTABLES_LOCKFILE: path } : {};
  const child = spawn("nsenter", command, {
    stdio: ["ignore", "inherit", "pipe"],
    env: { ...env, NETWORK_NAMESPACE: "", CNI_MODE: "", ...lock },
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", (error) => reject(new CaptureError(`${flag}: nsenter: ${error.message}`)));
    child.once("close", (status) => resolve(status ?? 1));
  });
  const { before, reason } = /^(?<before>[\s\S]*?)(?:error: (?<reason>[^\n]*)\n)?$/.exec(said)!.groups as {
    before: string;
    reason?: string;
  };
  process.stderr.write(before);
  if (code !== 0) throw new CaptureError(reason ?? `${flag}: ended with ${code}`, code);
}

function requireNamespace(path: string): void {
  try {
    if (statfsSync(path).type === namespaceFileSystem) return;
  } catch (error) {
    throw new CaptureError(`${flag}: ${(error as Error).message}`);
  }
  throw new CaptureError(`${flag}: ${path} is no namespace`);
}

/** Where rules are written down: beside them, so that a reboot takes both away. Namespaces may share /run, and not their rules. */
export function captureRecordFile(): string {
  const [mine, machines] = [namespaceOf("self"), namespaceOf("1")];
  const isMachines = mine === undefined || machines === undefined || mine === machines;
  return `/run/istio/capture${isMachines ? "" : `-${mine}`}.json`;
}

/** Its number; undefined for a process that is none of this user's. */
function namespaceOf(pid: string): string | undefined {
  try {
    return /\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0];
  } catch {
    return undefined;
  }
}
