/**
 * `pilot-agent machine`: what the units of systemd run in place of Istio's script, istio-start.sh, with the same words.
 *
 *   machine init    as root, before the agent: secrets' places, and the rules by which traffic is captured, replaced as a whole
 *   machine run     as istio-proxy: the agent, with the settings of sidecar.env and cluster.env
 *   machine reload  as root: a new process with the settings of now takes over from the one that runs, then the rules by them; or nothing changes
 *   machine clean   as root, when the service has ended for good: the rules taken back
 */
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { Command } from "commander";
import { log } from "../../lib/log.ts";
import type { FlagValues } from "../capture/capture-settings.ts";
import { runCapture } from "../capture/command.ts";
import { CommandError, runCommand } from "../capture/command-runner.ts";
import { flagValues } from "../capture/flags.ts";
import { findUser } from "../capture/machine-facts.ts";
import { parseBoolean } from "../environment-values.ts";
import { askForHandover, handoverPath } from "../handover/handover-socket.ts";
import { agentPaths } from "../paths.ts";
import { forgetCapture, isCaptureNoted, noteCapture } from "./capture-note.ts";
import { EnvironmentFileError } from "./environment-file.ts";
import { gatewayDefaults } from "./gateway-defaults.ts";
import { loadMachineEnvironment } from "./load-environment.ts";
import { type MachineEnvironment, MachineError } from "./machine-environment.ts";
import { migrateRequests, prepareSecrets } from "./preparation.ts";

const scope = log.scope("machine");

type Variables = Readonly<Record<string, string | undefined>>;

export interface MachineCommandOptions {
  readonly env: Variables;
  /** Runs `pilot-agent proxy TYPE FLAGS` with these variables. */
  readonly runProxy: (type: "sidecar" | "router", environment: MachineEnvironment) => Promise<void>;
}

interface Options {
  readonly gateway?: string;
}

export function machineCommand({ env, runProxy }: MachineCommandOptions): Command {
  const machine = new Command("machine").description("What istio.service and istio-gateway@.service run");
  const gateway = ["--gateway <name>", "for istio-gateway@<name>: ingress, egress, eastwest or a name of your own"] as const;
  machine
    .command("init")
    .description("Prepare the machine, and capture its traffic; as root")
    .option(...gateway)
    .action(async (options: Options) => capture(options, await prepare(options, env)));
  machine
    .command("run")
    .description("Run the agent with the settings of sidecar.env and cluster.env")
    .option(...gateway)
    .action(async (options: Options) => {
      const environment = await load(options, env);
      for (const warning of environment.warnings) scope.warn(warning);
      if (environment.variables.ISTIO_INBOUND_INTERCEPTION_MODE === "TPROXY") await checkMayBeTransparent();
      await runProxy(options.gateway === undefined ? "sidecar" : "router", environment);
    });
  machine
    .command("reload")
    .description(
      "Let a new process, of the program and the settings as they are now, take over from the running one; no connection is lost; as root",
    )
    .option(...gateway)
    .action(async (options: Options) => {
      const variables = await prepare(options, env);
      // Rules for a proxy that does not come up would lead to nobody.
      if (isCaptured(options, variables)) await runCapture({ ...(await captureFlagsOf(variables)), "skip-rule-apply": "true" }, variables);
      await handOver(env);
      await capture(options, variables);
    });
  machine
    .command("clean")
    .description("Capture traffic no longer; as root")
    .option("--stopped <unit>", "only when systemd has been told to stop that unit; not when it will start again")
    .action(async ({ stopped }: { stopped?: string }) => {
      if (stopped === undefined || (await isBeingStopped(stopped))) await clean(env);
    });
  return machine;
}

function load({ gateway }: Options, env: Variables): Promise<MachineEnvironment> {
  if (gateway !== undefined && !/^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$/.test(gateway))
    throw new MachineError(`--gateway "${gateway}": is no name of lower-case letters, digits and dashes`);
  return loadMachineEnvironment(env, gateway === undefined ? undefined : gatewayDefaults(gateway, hostname()));
}

/** Resolves to the settings. */
async function prepare(options: Options, env: Variables): Promise<Variables> {
  const { variables } = await load(options, env);
  const name = variables.ENVOY_USER || "istio-proxy";
  const user = await findUser(runCommand, name);
  if (!user) throw new MachineError(`there is no user "${name}" on this machine`);
  await migrateRequests();
  const { mountedFiles, token } = agentPaths(".");
  await prepareSecrets(mountedFiles, token, { uid: Number(user.uid), gid: Number(user.gid) });
  return variables;
}

async function capture(options: Options, variables: Variables): Promise<void> {
  if (isCaptured(options, variables)) {
    await noteCapture();
    await runCapture(await captureFlagsOf(variables), variables);
  } else if (options.gateway === undefined) await setFree(variables);
}

function isCaptured({ gateway }: Options, variables: Variables): boolean {
  return gateway === undefined && !isCapturedByHand(variables);
}

/** The unit's group is called as its user is; a user who was there before may have another first, which is others' too. */
async function captureFlagsOf(variables: Variables): Promise<FlagValues> {
  const group = await findGroup(variables.ENVOY_USER || "istio-proxy");
  return flagValues({ "envoy-port": variables.ENVOY_PORT, "proxy-gid": variables.PROXY_GID || group }, variables);
}

/** Its number. */
async function findGroup(name: string): Promise<string | undefined> {
  try {
    return (await runCommand("getent", ["group", name])).split(":")[2] || undefined;
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

async function handOver({ RUNTIME_DIRECTORY: directory }: Variables): Promise<void> {
  if (!directory) throw new MachineError("RUNTIME_DIRECTORY is not set: it is systemd that calls this, at a reload");
  const answer = await askForHandover(handoverPath(directory));
  if (answer?.problem) throw new MachineError(`the running process goes on, by the settings that it began with: ${answer.problem}`);
  if (answer?.pid !== undefined) return;
  scope.warn(
    "the running process goes on, by the settings that it began with: it can't hand over before it serves, nor with an Envoy of its own",
  );
}

async function clean(env: Variables): Promise<void> {
  try {
    if (isCapturedByHand((await load({}, env)).variables)) return await setFree(env);
  } catch (error) {
    // What was captured is written down; settings that have become unreadable since are no reason to keep it.
    if (!(error instanceof EnvironmentFileError || error instanceof MachineError)) throw error;
    scope.warn("settings can't be read, traffic is set free all the same", { reason: error.message });
  }
  await runCapture({ "cleanup-only": "true" }, env);
  await forgetCapture();
}

/** Of rules that this service set, by the settings of that time; others are the user's. */
async function setFree(env: Variables): Promise<void> {
  if (!isCaptureNoted()) return;
  await runCapture({ "cleanup-only": "true" }, env);
  await forgetCapture();
}

/** A unit that failed has no job until it is started again, and one that is restarted has another. */
async function isBeingStopped(unit: string): Promise<boolean> {
  const jobs = await runCommand("systemctl", ["list-jobs", "--plain", "--no-legend", unit]);
  return jobs.split("\n").some((line) => line.trim().split(/\s+/)[2] === "stop");
}

/** By the user's own rules, or not at all, since there is no proxy to take it. */
function isCapturedByHand(variables: Variables): boolean {
  return variables.ISTIO_CUSTOM_IP_TABLES === "true" || parseBoolean("DISABLE_ENVOY", variables.DISABLE_ENVOY, false);
}

const capNetAdmin = 12n;

/** Sockets that take connections for others' addresses need a capability; without it every captured connection would be refused. */
async function checkMayBeTransparent(): Promise<void> {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(await readFile("/proc/self/status", "utf8"))?.[1] ?? "0";
  if ((BigInt(`0x${effective}`) >> capNetAdmin) & 1n) return;
  throw new MachineError(
    "ISTIO_INBOUND_INTERCEPTION_MODE=TPROXY needs CAP_NET_ADMIN: systemctl edit istio, [Service] AmbientCapabilities=CAP_NET_ADMIN",
  );
}
