/** Whether a machine can still do, after its traffic is captured, what it could do before: look names up, and keep its user's session. */
import { execFile } from "node:child_process";
import { Resolver } from "node:dns/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const dnsTimeoutMs = 2000;

/** Of `SSH_CONNECTION`: client's address and port, then this machine's. */
export interface SshSession {
  readonly client: string;
  readonly clientPort: string;
  readonly port: string;
}

export function sshSession(env: Readonly<Record<string, string | undefined>>): SshSession | undefined {
  const [client, clientPort, , port] = (env.SSH_CONNECTION ?? "").split(" ");
  return client && clientPort && port ? { client, clientPort, port } : undefined;
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

/** Whether what is sent into the session arrives: the kernel knows what the other side has not acknowledged. */
export async function sessionIsAlive({ client, clientPort }: SshSession): Promise<boolean> {
  const { stdout } = await run("ss", ["-tniH", "dst", client, "dport", "=", `:${clientPort}`], { encoding: "utf8" }).catch(() => ({
    stdout: "",
  }));
  // No such socket: it is not this machine's to see, through a jump of the session say; then the guard is what is left.
  if (stdout.trim() === "") return true;
  return !/\bbackoff:\d+/.test(stdout);
}
