/**
 * `topsail join ADDRESS --token CODE`: one command from a bare machine with the package to a workload of the mesh. What could lock its user
 * out is undone by itself: a guard rolls everything back unless the checks that follow confirm that names and the session still work.
 */
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { Command, CommanderError } from "commander";
import { parseCode } from "../api/machine/invitation.ts";
import { fail } from "../lib/fail.ts";
import { HostPortError } from "../lib/host-port.ts";
import { ownCommand } from "../lib/own-command.ts";
import { pause } from "../lib/pause.ts";
import { findSession, namesAreAnswered, type SshSession, watchSession } from "./checks.ts";
import { discover, parseControlPlane, redeem } from "./control-plane.ts";
import { JoinError } from "./join-error.ts";
import { gatewayMember, joinPlan, type Member, sidecar } from "./join-plan.ts";
import { applyPlan, confirmChanges, requireMachine, rollBack, startGuard, startService, stopGuard, tellJournal } from "./machine.ts";

interface JoinOptions {
  readonly token?: string;
  readonly dryRun: boolean;
  readonly rollBack: boolean;
  readonly gateway?: string;
}

/** Starting included: an agent that can't reach anybody is given up by then. */
const guardSeconds = 120;
const confirmations = 10;
const confirmationPeriodMs = 1000;

export async function main(args: string[]): Promise<number> {
  // Who writes into a session that is gone must not end of it: there may be something to undo.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  let exitCode = 0;
  const program = new Command("topsail join")
    .description("Make this machine a workload of a mesh")
    .argument("[address]", "control plane or its east-west gateway, HOST or HOST:PORT; port 15012")
    .option("--token <code>", "one-time code of 'istioctl x workload invite'; - reads it from standard input")
    .option("--gateway <name>", "have istio-gateway@<name> join instead of the sidecar: ingress, egress, eastwest or a name of your own")
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
  const member = memberOf(options);
  if (options.rollBack) {
    await requireMachine(member);
    const wasThere = await rollBack(member);
    const text = wasThere ? "rolled back: the machine is as it was before it joined" : "nothing to roll back";
    say(text);
    if (wasThere) await tellJournal(`${text}, which nobody confirmed`);
    return 0;
  }
  if (!address) return fail("no address of a control plane", "topsail join ADDRESS --token CODE");
  const given = options.token === "-" ? await readStdin() : options.token;
  const code = given === undefined ? undefined : parseCode(given);
  if (!code) return fail(given === undefined ? "no --token" : "--token is no code of 'istioctl x workload invite'");
  const target = parseControlPlane(address);
  if (!options.dryRun) {
    await requireMachine(member);
    // One that was killed before its guard's time.
    if (await rollBack(member)) say("a former join, which nobody confirmed, is undone");
  }

  const discovered = await discover(target, code);
  const { address: controlPlaneIp } = await lookup(target.host).catch((error: Error) => {
    throw new JoinError(`${target.host} has no address: ${error.message}`);
  });
  const session = await findSession(process.env, process.ppid);
  const hosts = await readFile("/etc/hosts", "utf8").catch(() => "");
  const planFor = (files: Readonly<Record<string, string>>) =>
    joinPlan({ files, controlPlaneIp, hosts, sshPort: session?.port ?? "" }, member);
  if (options.dryRun) {
    const unknown = { "root-cert.pem": discovered.roots, "istio-token": "", "cluster.env": "", "mesh.yaml": "" };
    say(`would join workload group ${discovered.group} of ${address} (${controlPlaneIp}), whose proof is right`);
    for (const { path, mode, isAgents } of planFor(unknown))
      say(`would write ${path} (${mode.toString(8)}, ${isAgents ? "istio-proxy" : "root"})`);
    say(`would enable and start ${member.unit}${member === sidecar ? ", which captures this machine's traffic" : ""}`);
    return 0;
  }
  const plan = planFor(await redeem(target, code, discovered));
  // A gateway captures nothing.
  const checks = member === sidecar ? await checksOf(session) : [];
  using interruption = interrupted();
  const which = options.gateway === undefined ? [] : ["--gateway", options.gateway];
  await startGuard([...ownCommand(), "join", ...which], guardSeconds, member);
  try {
    await applyPlan(plan, member);
    say(`joining workload group ${discovered.group}`);
    await startService(member, interruption.signal);
    if (member === sidecar) await confirm(checks, interruption.signal);
    if (!(await confirmChanges(member))) throw new JoinError(`not done within ${guardSeconds} s`, `journalctl -u ${member.unit}`);
  } catch (error) {
    await rollBack(member);
    await stopGuard(member);
    const text = "rolled back: the machine is as it was";
    say(text);
    await tellJournal(`${text}: ${error instanceof Error ? error.message : error}`);
    throw error;
  }
  await stopGuard(member);
  say("joined");
  return 0;
}

interface Check {
  readonly works: () => Promise<boolean>;
  readonly problem: string;
}

/** What works now and must work then. */
async function checksOf(session: SshSession | undefined): Promise<Check[]> {
  return [
    ...(session ? [{ works: await watchSession(session), problem: "your session no longer gets through" }] : []),
    ...((await namesAreAnswered()) ? [{ works: namesAreAnswered, problem: "names can no longer be looked up" }] : []),
  ];
}

function memberOf({ gateway }: JoinOptions): Member {
  try {
    return gateway === undefined ? sidecar : gatewayMember(gateway);
  } catch (error) {
    throw new JoinError(`--gateway: ${(error as Error).message}`);
  }
}

/** Throws JoinError when something does not work that did before. */
async function confirm(checks: readonly Check[], signal: AbortSignal): Promise<void> {
  for (let round = 0; round < confirmations; round++) {
    // Something has to be under way for the kernel to see that it does not arrive.
    process.stdout.write(".");
    const keepAlive = setInterval(() => undefined, 1 << 30);
    await pause(confirmationPeriodMs, signal);
    clearInterval(keepAlive);
    signal.throwIfAborted();
    for (const { works, problem } of checks) if (!(await works())) throw new JoinError(problem);
  }
  process.stdout.write("\n");
}

/** Aborts with a JoinError when this process is told to end, by its user or because the session has ended. */
function interrupted(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const listeners = names.map((name) => {
    const listener = () => controller.abort(new JoinError(`ended by ${name}`));
    process.on(name, listener);
    return [name, listener] as const;
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const [name, listener] of listeners) process.off(name, listener);
    },
  };
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
