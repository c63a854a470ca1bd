/** `istioctl x workload invite`: a one-time code by which a machine joins a WorkloadGroup with one command. */
import { Command } from "commander";
import { formatCode, invitationSecret, newCode } from "../../api/machine/invitation.ts";
import { parseDurationMs } from "../../api/schema/duration.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { KubeError, objectPath } from "../kube/kube-client.ts";

interface InviteOptions {
  readonly namespace?: string;
  readonly ttl: string;
  readonly address?: string;
}

const maxTtlMs = 7 * 24 * 3_600_000;

export function inviteCommand(context: CommandContext): Command {
  return new Command("invite")
    .summary("Creates a one-time code by which a machine joins a workload group: topsail join")
    .argument("<group>", "the workload group, NAME or NAME.NAMESPACE")
    .option("-n, --namespace <name>", "namespace of the workload group")
    .option("--ttl <duration>", "how long the code is good, at most 168h", "1h")
    .option("--address <host[:port]>", "where machines reach the control plane or its east-west gateway; only printed")
    .action((group: string, options: InviteOptions) => invite(group, options, context));
}

async function invite(text: string, options: InviteOptions, context: CommandContext): Promise<void> {
  const [group = "", suffix] = text.split(".");
  const namespace = suffix ?? options.namespace ?? context.namespace();
  const ttlMs = parseDurationMs(options.ttl);
  if (ttlMs === undefined || ttlMs < 1000 || ttlMs > maxTtlMs)
    throw new CliError(`--ttl: "${options.ttl}" is no duration from 1s to 168h`, { exitCode: 64 });
  const kube = await context.kube();
  const systemNamespace = context.istioNamespace();
  const code = newCode();
  try {
    await kube.get(objectPath("networking.istio.io/v1", namespace, "workloadgroups", group));
    const secret = invitationSecret(code, { namespace, group, expiresAt: new Date(Date.now() + ttlMs) }, systemNamespace);
    await kube.post(`/api/v1/namespaces/${encodeURIComponent(systemNamespace)}/secrets`, secret);
  } catch (error) {
    if (error instanceof KubeError)
      throw new CliError(`no invitation to workload group ${namespace}/${group}: ${error.message}`, { cause: error });
    throw error;
  }
  context.err(
    `Warning: whoever has this code can join workload group ${namespace}/${group} within ${options.ttl}, once. On the machine, as root:\n`,
  );
  context.out(`topsail join ${options.address ?? "ADDRESS"} --token ${formatCode(code)}\n`);
}
