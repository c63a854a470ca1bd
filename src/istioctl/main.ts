/** The program istioctl: commands/ holds one file a command; here they are put together and their failures become exit codes. */
import { Command, CommanderError } from "commander";
import { ConfigError } from "../api/config-error.ts";
import { CliError } from "./cli-error.ts";
import type { CommandContext } from "./command.ts";
import { commands } from "./commands/index.ts";
import { KubeClient } from "./kube/kube-client.ts";
import { loadKubeAccess } from "./kube/kubeconfig.ts";

/** sysexits.h EX_USAGE, istioctl's code for a command line that it doesn't understand. */
const usageExitCode = 64;

interface GlobalOptions {
  readonly namespace?: string;
  readonly istioNamespace: string;
  readonly kubeconfig?: string;
  readonly context?: string;
}

/** Where a run reads and writes; the process's own streams, or a test's. */
export type CommandStreams = Pick<CommandContext, "out" | "err" | "readStdin">;

export async function main(args: string[]): Promise<number> {
  return run(args, {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    readStdin,
  });
}

/** Resolves to the exit code. */
export async function run(args: readonly string[], streams: CommandStreams): Promise<number> {
  const program = new Command("istioctl")
    .description("Istio configuration command line utility")
    .option("-n, --namespace <name>", "namespace of objects that name none")
    .option("-i, --istioNamespace <name>", "Istio system namespace", "istio-system")
    .option("-c, --kubeconfig <file>", "Kubernetes configuration file")
    .option("--context <name>", "the kubeconfig context to use");
  const options = () => program.opts<GlobalOptions>();
  const context: CommandContext = {
    ...streams,
    namespace: () => options().namespace ?? "default",
    namespaceFlag: () => options().namespace,
    istioNamespace: () => options().istioNamespace,
    kube: async () => {
      const { kubeconfig, context } = options();
      return new KubeClient(await loadKubeAccess({ file: kubeconfig, context, env: process.env }));
    },
  };
  for (const { create } of commands) program.addCommand(create(context));
  settle(program, streams);
  try {
    await program.parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 || error.code === "commander.help" ? 0 : usageExitCode;
    if (error instanceof ConfigError) {
      streams.err(`Error: ${error.describe()}\n`);
      return 1;
    }
    if (!(error instanceof CliError)) throw error;
    streams.err(`Error: ${error.message}\n`);
    return error.exitCode;
  }
}

/** commander must neither write to the process's streams nor end the process. */
function settle(command: Command, streams: CommandStreams): void {
  command.exitOverride().configureOutput({
    writeOut: streams.out,
    writeErr: streams.err,
    outputError: (text, write) => write(text.replace(/^error: /, "Error: ")),
  });
  for (const child of command.commands) settle(child, streams);
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
