/** `istioctl x workload group create`: a WorkloadGroup printed, for `kubectl apply -f -`. Source: Istio istioctl/pkg/workload. */
import { Command } from "commander";
import { yamlText } from "../../api/machine/yaml-text.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";

interface GroupOptions {
  readonly name?: string;
  readonly namespace?: string | undefined;
  readonly labels?: readonly string[];
  readonly annotations?: readonly string[];
  readonly ports?: readonly string[];
  readonly serviceAccount: string;
  readonly network?: string;
  readonly locality?: string;
  readonly weight?: string;
}

const collect = (text: string, before: readonly string[] = []) => [...before, ...text.split(",").filter(Boolean)];

export function groupCreateCommand(context: CommandContext): Command {
  return new Command("create")
    .summary("Creates a WorkloadGroup resource that provides a template for associated WorkloadEntries")
    .description("Prints a WorkloadGroup, a template for the entries of workloads. Pipe it into 'kubectl apply -f -'.")
    .option("--name <name>", "the name of the workload group")
    .option("-n, --namespace <name>", "the namespace that the workload instances belong to")
    .option("-l, --labels <k=v,...>", "labels of the workload instances", collect)
    .option("-a, --annotations <k=v,...>", "annotations of the workload instances", collect)
    .option("-p, --ports <name=number,...>", "ports that the workload instances serve", collect)
    .option("-s, --serviceAccount <name>", "identity of the workload instances", "default")
    .option("--network <name>", "network in which they are")
    .option("--locality <region/zone/subzone>", "where they are")
    .option("-w, --weight <number>", "load balancing weight of one of them")
    .action((options: GroupOptions) => context.out(groupText({ ...options, namespace: options.namespace ?? context.namespaceFlag() })));
}

function groupText({ name, namespace, labels, annotations, ports, serviceAccount, network, locality, weight }: GroupOptions): string {
  if (!name) throw new CliError("expecting a workload name");
  if (!namespace) throw new CliError("expecting a workload namespace");
  return yamlText({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadGroup",
    metadata: { name, namespace },
    spec: {
      metadata: { ...filled("labels", pairs(labels)), ...filled("annotations", pairs(annotations)) },
      template: {
        ...filled("ports", Object.fromEntries(Object.entries(pairs(ports)).map(([port, text]) => [port, parsePort(port, text)]))),
        serviceAccount,
        ...(network ? { network } : {}),
        ...(locality ? { locality } : {}),
        ...(weight ? { weight: parseNumber("--weight", weight) } : {}),
      },
    },
  });
}

/** Split at the first `=`; what has none has an empty value. */
function pairs(list: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    list.map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function filled(field: string, content: Record<string, unknown>): Record<string, unknown> {
  return Object.keys(content).length > 0 ? { [field]: content } : {};
}

/** Istio prints a port that is no number as 0, and says so in its log alone. */
function parsePort(name: string, text: string): number {
  const port = parseNumber(`--ports ${name}`, text);
  if (port > 65535) throw new CliError(`--ports ${name}: ${text} is no port`, { exitCode: 64 });
  return port;
}

function parseNumber(flag: string, text: string): number {
  if (!/^\d{1,10}$/.test(text) || Number(text) > 0xffff_ffff)
    throw new CliError(`${flag}: ${JSON.stringify(text)} is no number`, { exitCode: 64 });
  return Number(text);
}
