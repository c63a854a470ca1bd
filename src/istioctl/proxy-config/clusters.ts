/** `istioctl proxy-config clusters`. Source: Istio istioctl/pkg/writer/envoy/configdump/cluster.go. */
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type JsonObject, objectAt, objectsAt, textAt } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { managedBy } from "./managed-by.ts";
import { parsePort, readConfigDump, type SourceOptions, sourceCommand } from "./proxy-source.ts";
import { withoutType } from "./without-type.ts";

interface Options extends SourceOptions {
  readonly fqdn?: string;
  readonly port?: string;
  readonly subset?: string;
  readonly direction?: string;
}

const heading = ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"];

export function clustersCommand(context: CommandContext): Command {
  return sourceCommand("cluster", ["clusters", "c"], "Retrieves cluster configuration for the Envoy in the specified pod")
    .option("--fqdn <text>", "filter clusters by substring of Service FQDN field")
    .option("--direction <direction>", "filter clusters by Direction field")
    .option("--subset <text>", "filter clusters by substring of Subset field")
    .option("--port <port>", "filter clusters by Port field")
    .action((target: string | undefined, options: Options) => showClusters(target, options, context));
}

async function showClusters(target: string | undefined, options: Options, context: CommandContext): Promise<void> {
  const passes = filterOf(options);
  const dump = await readConfigDump(
    "ClustersConfigDump",
    "dynamic_active_clusters,dynamic_warming_clusters,static_clusters",
    target,
    options,
    context,
  );
  const all = [...objectsAt(dump, "dynamic_active_clusters"), ...objectsAt(dump, "static_clusters")].map((entry) =>
    objectAt(entry, "cluster"),
  );
  if (all.length === 0) throw new CliError("no clusters found");
  const clusters = all
    .map((message): Cluster => ({ message, ...parseClusterName(textAt(message, "name")) }))
    .sort(byName)
    .filter(passes);
  printDump(options.output, context, {
    table: () => formatTable([heading, ...clusters.map(rowOf)], 5),
    dump: () => clusters.map(({ message }) => withoutType(message)),
  });
}

interface ClusterName {
  readonly name: string;
  readonly direction: string;
  readonly port: number;
  readonly subset: string;
  readonly fqdn: string;
  /** Made of the four parts. */
  readonly isIstios: boolean;
}

type Cluster = ClusterName & { readonly message: JsonObject };

/** `direction|port|subset|fqdn`, or a name of another kind. */
function parseClusterName(name: string): ClusterName {
  const [direction = "", port = "", subset = "", ...rest] = name.split("|");
  if (rest.length === 0) return { name, direction: "", port: 0, subset: "", fqdn: name, isIstios: false };
  return { name, direction, port: /^\d+$/.test(port) ? Number(port) : 0, subset, fqdn: rest.join("|"), isIstios: true };
}

function filterOf({ fqdn = "", port = "0", subset = "", direction = "" }: Options): (cluster: Cluster) => boolean {
  const portText = port === "0" ? "" : `|${parsePort(port, "--port")}|`;
  return ({ name }) => [fqdn, portText, subset, direction].every((text) => name.includes(text));
}

function byName(a: Cluster, b: Cluster): number {
  return compare(a.fqdn, b.fqdn) || compare(a.subset, b.subset) || a.port - b.port || compare(a.direction, b.direction);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function rowOf({ message, isIstios, fqdn, port, subset, direction }: Cluster): string[] {
  const type = textAt(message, "type") || "STATIC";
  const place = isIstios ? [String(port), subset || "-", direction] : ["-", "-", "-"];
  return [fqdn, ...place, type, managedBy(message)];
}
