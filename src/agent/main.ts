/** `topsail pilot-agent proxy router|sidecar`: the agent's command line, as Istio's. */
import { readFile } from "node:fs/promises";
import { Command, CommanderError, Option } from "commander";
import { ConfigError } from "../api/config-error.ts";
import { fail } from "../lib/fail.ts";
import { HostPortError } from "../lib/host-port.ts";
import { expectJournal } from "../lib/journal.ts";
import { log } from "../lib/log.ts";
import { version } from "../lib/version.ts";
import { ServiceManager, serviceVariables } from "../platform/service-manager.ts";
import { toldToStop } from "../platform/told-to-stop.ts";
import { Agent } from "./agent.ts";
import { CaptureError } from "./capture/capture-settings.ts";
import { captureCommands } from "./capture/command.ts";
import { CommandError } from "./capture/command-runner.ts";
import { readEnvironment } from "./environment.ts";
import { EnvironmentError } from "./environment-values.ts";
import { handoverVariable, Predecessor } from "./handover/predecessor.ts";
import { type StartedAs, Successor } from "./handover/successor.ts";
import { machineCommand } from "./machine/command.ts";
import { EnvironmentFileError } from "./machine/environment-file.ts";
import { MachineError } from "./machine/machine-environment.ts";
import { effectiveProxyConfig } from "./proxy-config.ts";
import { RequestError, requestCommands } from "./request-command.ts";
import { Service } from "./service.ts";

/** Before settings of the machine are added. */
const startedAs: StartedAs = { env: { ...process.env }, argv: process.argv.slice(2) };

/** For what has been said to be written. */
const lastWordsMs = 500;

interface ProxyOptions {
  domain?: string;
  meshConfig: string;
  concurrency: string;
  proxyLogLevel: string;
  proxyComponentLogLevel: string;
  templateFile?: string;
  log_output_level: string;
  log_as_json?: string;
}

export async function main(args: string[]): Promise<number> {
  expectJournal(process.env.JOURNAL_STREAM);
  let exitCode = 0;
  const program = new Command("topsail pilot-agent").description("Run and look after a proxy of the mesh.").exitOverride();
  program
    .command("version")
    .description("Print the version")
    .action(() => void process.stdout.write(`${version}\n`));
  program
    .command("proxy")
    .description("Run the proxy of a workload (sidecar) or of a gateway (router)")
    .argument("[type]", "sidecar or router", "sidecar")
    .option("--domain <domain>", "DNS domain of the node; default <namespace>.svc.cluster.local")
    .option("--meshConfig <file>", "MeshConfig whose defaultConfig holds", "./etc/istio/config/mesh")
    .option("--concurrency <n>", "worker threads; 0 for one a core", "0")
    .option("--proxyLogLevel <levels>", "the proxy's log level, and those of its parts: warning,misc:error", "warning")
    .option("--proxyComponentLogLevel <levels>", "those of its parts alone", "")
    .option("--templateFile <file>", "bootstrap of the proxy, plain JSON or YAML, in the place of the agent's own")
    .option("--log_output_level <levels>", "the agent's log level, and those of its scopes: info,dns:debug", "info")
    .addOption(new Option("--log_as_json [boolean]", "a JSON object a line").preset("true"))
    // As Istio's, whose flags come and go: what has no meaning here is said, and no reason not to start.
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (type: string, options: ProxyOptions, command: Command) => {
      const ignored = [type, ...command.args].find((word) => word.startsWith("-"));
      exitCode = await runProxy(type.startsWith("-") ? "sidecar" : type, options, ignored);
      // A connection to where nobody answers keeps a process for two minutes, long after whoever wanted it has given up.
      setTimeout(() => process.exit(), lastWordsMs).unref();
    });
  for (const command of [...captureCommands(process.env), ...requestCommands()]) program.addCommand(command.copyInheritedSettings(program));
  const machine = machineCommand({
    env: process.env,
    runProxy: async (type, { variables, agentFlags }) => {
      Object.assign(process.env, variables);
      exitCode = await main(["proxy", type, ...agentFlags]);
    },
  });
  program.addCommand(machine.copyInheritedSettings(program));
  for (const command of machine.commands) command.copyInheritedSettings(program);
  try {
    await program.parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof ConfigError) return fail(error.describe(), error.hint);
    if (error instanceof CaptureError) return fail(error.message, undefined, error.exitCode);
    if (isUsersMistake(error)) return fail(error.message);
    throw error;
  }
}

/** Their messages say all there is to say. */
function isUsersMistake(error: unknown): error is Error {
  return [EnvironmentError, HostPortError, CommandError, RequestError, EnvironmentFileError, MachineError].some(
    (kind) => error instanceof kind,
  );
}

async function runProxy(type: string, options: ProxyOptions, ignored: string | undefined): Promise<number> {
  if (type !== "sidecar" && type !== "router") return fail(`proxy type "${type}" is not in this version`, "sidecar or router");
  const wrongLevel = log.setLevels(options.log_output_level);
  if (wrongLevel !== undefined) return fail(`--log_output_level: unknown level "${wrongLevel}"`);
  if (options.log_as_json !== undefined && options.log_as_json !== "false") log.setFormat("json");
  if (!/^\d+$/.test(options.concurrency)) return fail(`--concurrency "${options.concurrency}" is no number of threads`);
  if (ignored !== undefined) log.scope("agent").warn("no effect of unknown flags", { from: ignored });
  const environment = readEnvironment(process.env);
  const proxyConfig = effectiveProxyConfig(await readMesh(options.meshConfig), environment.proxyConfig);

  const signalled = toldToStop().then(() => "signal" as const);
  using manager = ServiceManager.connect(process.env);
  using predecessor = await Predecessor.connect(process.env);
  for (const name of [...serviceVariables, handoverVariable]) delete process.env[name];
  await using agent = await Agent.start({
    type,
    domain: options.domain,
    environment,
    proxyConfig,
    usesBinary: typeof proxyConfig.json.binaryPath === "string",
    concurrency: Number(options.concurrency),
    logLevel: [options.proxyLogLevel, options.proxyComponentLogLevel].filter(Boolean).join(","),
    templateFile: options.templateFile,
    statusHost: environment.bindAddress,
    mayBeServedIdentity: !predecessor?.inheritance.servesIdentity,
    sharing: predecessor ? "beside" : manager ? "first" : "alone",
  });
  const { discoveryAddress: controlPlane } = proxyConfig.config;
  const runtimeDirectory = process.env.RUNTIME_DIRECTORY;
  await using service = manager && Service.start({ manager, agent, controlPlane, startedAs, predecessor, runtimeDirectory });
  const ended = await Promise.race([signalled, agent.proxy.exited, ...(service ? [service.handedOver] : [])]);
  if (ended instanceof Successor) {
    predecessor?.sayHandedOn();
    await Promise.race([agent.retire(), signalled, ended.ended, agent.proxy.exited]);
    return 0;
  }
  service?.stopping();
  if (ended !== "signal") return ended;

  // A second signal means now.
  const again = toldToStop();
  service?.draining();
  await Promise.race([agent.drain(), again, agent.proxy.exited]);
  return 0;
}

/** A mesh configuration that isn't there means Istio's defaults. */
async function readMesh(file: string): Promise<{ file: string; text: string } | undefined> {
  try {
    return { file, text: await readFile(file, "utf8") };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
