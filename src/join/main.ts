/**
 * `topsail join ADDRESS --token CODE`: one command from a bare machine with the package to a workload of the mesh. What could lock its user
 * out is undone by itself: a guard rolls everything back unless the checks that follow confirm that names and the session still work.
 */
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { Command, CommanderError } from "commander";
import { parseCode } from "../api/machine/invitation.ts";
import { fail } from "../lib/fail.ts";
import { HostPortError, parseHostPort } from "../lib/host-port.ts";
import { ownCommand } from "../lib/own-command.ts";
import { pause } from "../lib/pause.ts";
import { namesAreAnswered, type SshSession, sessionIsAlive, sshSession } from "./checks.ts";
import { discover, redeem } from "./control-plane.ts";
import { JoinError } from "./join-error.ts";
import { joinPlan } from "./join-plan.ts";
import { applyPlan, forgetJournal, requireMachine, rollBack, startGuard, startService, stopGuard } from "./machine.ts";

interface JoinOptions {
  readonly token?: string;
  readonly dryRun: boolean;
  readonly rollBack: boolean;
}

const defaultPort = "15012";
/** Starting included: an agent that can't reach anybody is given up by then. */
const guardSeconds = 120;
const confirmations = 10;
const confirmationPeriodMs = 1000;

export async function main(args: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command("topsail join")
    .description("Make this machine a workload of a mesh")
    .argument("[address]", "control plane or its east-west gateway, HOST or HOST:PORT; port 15012")
    .option("--token <code>", "one-time code of 'istioctl x workload invite'; - reads it from standard input")
    .option("--dry-run", "show what would change, and change nothing; the code stays good", false)
    .option("--roll-back", "undo a join that was not confirmed", false)
    .exitOverride()
    .action(async (address: string | undefined, options: JoinOptions) => {
      exitCode = await join(address, options);
    });
  try {
    await program.parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof JoinError) return fail(error.message, error.hint);
    if (error instanceof HostPortError) return fail(error.message);
    throw error;
  }
}

async function join(address: string | undefined, options: JoinOptions): Promise<number> {
  if (options.rollBack) {
    await requireMachine();
    say((await rollBack()) ? "rolled back: the machine is as it was before it joined" : "nothing to roll back");
    return 0;
  }
  if (!address) return fail("no address of a control plane", "topsail join ADDRESS --token CODE");
  const given = options.token === "-" ? await readStdin() : options.token;
  const code = given === undefined ? undefined : parseCode(given);
  if (!code) return fail(given === undefined ? "no --token" : "--token is no code of 'istioctl x workload invite'");
  const target = parseHostPort(address.includes(":") ? address : `${address}:${defaultPort}`, "ADDRESS", "connect");
  if (!options.dryRun) await requireMachine();

  const discovered = await discover(target, code);
  const { address: controlPlaneIp } = await lookup(target.host).catch((error: Error) => {
    throw new JoinError(`${target.host} has no address: ${error.message}`);
  });
  const session = sshSession(process.env);
  const hosts = await readFile("/etc/hosts", "utf8").catch(() => "");
  const planFor = (files: Readonly<Record<string, string>>) => joinPlan({ files, controlPlaneIp, hosts, sshPort: session?.port ?? "" });
  if (options.dryRun) {
    const unknown = { "root-cert.pem": discovered.roots, "istio-token": "", "cluster.env": "", "mesh.yaml": "" };
    say(`would join workload group ${discovered.group} of ${address} (${controlPlaneIp}), whose proof is right`);
    for (const { path, mode, isAgents } of planFor(unknown))
      say(`would write ${path} (${mode.toString(8)}, ${isAgents ? "istio-proxy" : "root"})`);
    say("would enable and start istio.service, which captures this machine's traffic");
    return 0;
  }
  const hadNames = await namesAreAnswered();
  const plan = planFor(await redeem(target, code, discovered));
  await startGuard([...ownCommand(), "join"], guardSeconds);
  try {
    await applyPlan(plan);
    say(`joining workload group ${discovered.group}`);
    await startService();
    await confirm(session, hadNames);
  } catch (error) {
    await rollBack();
    await stopGuard();
    say("rolled back: the machine is as it was");
    throw error;
  }
  await forgetJournal();
  await stopGuard();
  say("joined");
  return 0;
}

/** Throws JoinError when something does not work that did before. */
async function confirm(session: SshSession | undefined, hadNames: boolean): Promise<void> {
  const never = new AbortController().signal;
  for (let round = 0; round < confirmations; round++) {
    // Something has to be under way for the kernel to see that it does not arrive.
    process.stdout.write(".");
    const keepAlive = setInterval(() => undefined, 1 << 30);
    await pause(confirmationPeriodMs, never);
    clearInterval(keepAlive);
    if (session && !(await sessionIsAlive(session))) throw new JoinError("your session no longer gets through");
    if (hadNames && !(await namesAreAnswered())) throw new JoinError("names can no longer be looked up");
  }
  process.stdout.write("\n");
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
