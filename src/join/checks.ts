/** Whether a machine can still do, after its traffic is captured, what it could do before: look names up, and keep its user's session. */
import { execFile } from "node:child_process";
import { Resolver } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const variable = "SSH_CONNECTION";
const dnsTimeoutMs = 2000;

/** Of `SSH_CONNECTION`: client's address and port, then this machine's. */
export interface SshSession {
  readonly client: string;
  readonly clientPort: string;
  readonly port: string;
}

export function sshSession(env: Readonly<Record<string, string | undefined>>): SshSession | undefined {
  const [client, clientPort, , port] = (env[variable] ?? "").split(" ");
  return client && clientPort && port ? { client, clientPort, port } : undefined;
}

/** sudo does not hand the variable on; whoever is above it has it. */
export async function findSession(env: Readonly<Record<string, string | undefined>>, parent: number): Promise<SshSession | undefined> {
  const own = sshSession(env);
  if (own) return own;
  for (let pid = parent; pid > 1; ) {
    try {
      const words = (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0");
      const text = words.find((word) => word.startsWith(`${variable}=`));
      if (text) return sshSession({ [variable]: text.slice(variable.length + 1) });
      const stat = await readFile(`/proc/${pid}/stat`, "utf8");
      pid = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    } catch {
      return undefined; // it has ended, or is somebody else's
    }
  }
  return undefined;
}

/** Whether a name server answers at all; what it answers does not matter. */
export async function namesAreAnswered(): Promise<boolean> {
  const resolver = new Resolver({ timeout: dnsTimeoutMs, tries: 2 });
  try {
    await resolver.resolveNs(".");
    return true;
  } catch (error) {
    return !["ETIMEOUT", "ESERVFAIL", "ECONNREFUSED", "ETIMEDOUT", "EREFUSED"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

/**
 * Tells whether what is sent into the session arrives: the kernel knows what the other side has not acknowledged. One that is not this
 * machine's to see, through a jump say, is always taken for alive; then the guard is what is left.
 */
export async function watchSession(session: SshSession): Promise<() => Promise<boolean>> {
  if ((await socketOf(session)) === "") return async () => true;
  return async () => {
    const socket = await socketOf(session);
    return socket !== "" && !/\bbackoff:\d+/.test(socket);
  };
}

/** By its ports alone: the address may be written in either family. */
async function socketOf({ clientPort, port }: SshSession): Promise<string> {
  const filter = ["sport", "=", `:${port}`, "and", "dport", "=", `:${clientPort}`];
  const { stdout } = await run("ss", ["-tniH", "state", "established", ...filter], { encoding: "utf8" }).catch(() => ({ stdout: "" }));
  return stdout.trim();
}
