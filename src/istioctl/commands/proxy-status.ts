/** `istioctl proxy-status`: what the control plane sent each proxy, and whether it took it. Source: Istio istioctl/pkg/writer/pilot/status.go. */
import { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext, IstioctlCommand } from "../command.ts";
import { type ControlPlane, connectedProxies, findControlPlanes, type ProxySync } from "../control-plane/ask-control-planes.ts";
import { clientStatus } from "../control-plane/client-status.ts";
import { shortType, shortTypes } from "../control-plane/short-type.ts";
import { syncText, type TypeSync, typeSyncs } from "../control-plane/sync-status.ts";
import { jsonText, yamlText } from "../output/proto-json.ts";
import { formatTable } from "../output/table.ts";

interface Options {
  readonly output: string;
  readonly verbosity: string;
}

const padding = 5;

export const proxyStatus: IstioctlCommand = {
  name: "proxy-status",
  create: (context) =>
    new Command("proxy-status")
      .alias("ps")
      .summary("Retrieves the synchronization status of each Envoy in the mesh")
      .option("-o, --output <format>", "one of 'json', 'yaml' or 'table'", "table")
      .option("-v, --verbosity <level>", "0, or 1 for all xDS types", "0")
      .action((options: Options) => showStatus(options, context)),
};

interface Row {
  readonly plane: ControlPlane;
  readonly proxy: ProxySync;
  readonly syncs: readonly TypeSync[];
}

async function showStatus({ output, verbosity }: Options, context: CommandContext): Promise<void> {
  if (!["table", "json", "yaml"].includes(output)) throw new CliError(`output format "${output}" not supported`);
  if (!/^\d+$/.test(verbosity)) throw new CliError(`--verbosity ${verbosity} is no number`, { exitCode: 64 });
  const namespace = context.namespaceFlag();
  const planes = await findControlPlanes(context);
  const answers = await Promise.all(planes.map(async (plane) => ({ plane, proxies: await connectedProxies(plane) })));
  const shown = answers.map(({ plane, proxies }) => ({
    plane,
    proxies: proxies.filter((proxy) => namespace === undefined || proxy.namespace === namespace),
  }));
  if (output === "table") {
    const rows = shown.flatMap(({ plane, proxies }) => proxies.map((proxy): Row => ({ plane, proxy, syncs: typeSyncs(proxy.resources) })));
    rows.sort((a, b) => (a.proxy.id < b.proxy.id ? -1 : a.proxy.id > b.proxy.id ? 1 : 0));
    context.out(formatTable(verbosity === "0" ? summary(rows) : details(rows, Date.now()), padding));
    return;
  }
  for (const { plane, proxies } of shown) {
    const status = clientStatus(plane, await plane.get("/version"), proxies);
    context.out(output === "json" ? jsonText(status) : yamlText(status));
  }
}

/** The four that every proxy has, then the others by URL. */
const firstTypes = ["CDS", "LDS", "EDS", "RDS"];

function summary(rows: readonly Row[]): string[][] {
  return [
    ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"],
    ...rows.map(({ plane, proxy, syncs }) => {
      const types = syncs.map(({ typeUrl }) => shortType(typeUrl));
      const ordered = [...firstTypes.filter((type) => types.includes(type)), ...types.filter((type) => !firstTypes.includes(type))];
      return [
        ...[proxy.id, proxy.clusterId, plane.name, proxy.istioVersion],
        ordered.length === 0 ? "0" : `${ordered.length} (${ordered.join(",")})`,
      ];
    }),
  ];
}

/** A column for each type that is subscribed to somewhere, and for the usual ones. */
function details(rows: readonly Row[], nowMs: number): string[][] {
  const usual = Object.entries(shortTypes).filter(([, short]) => [...firstTypes, "ECDS"].includes(short));
  const typeUrls = [
    ...new Set([...usual.map(([typeUrl]) => typeUrl), ...rows.flatMap(({ syncs }) => syncs.map(({ typeUrl }) => typeUrl))]),
  ].sort();
  return [
    ["NAME", "CLUSTER", ...typeUrls.map(shortType), "ISTIOD", "VERSION"],
    ...rows.map(({ plane, proxy, syncs }) => {
      const byType = new Map(syncs.map((sync) => [sync.typeUrl, syncText(sync, nowMs)]));
      const cells = typeUrls.map((typeUrl) => byType.get(typeUrl) ?? "IGNORED");
      return [proxy.id, proxy.clusterId, ...cells, plane.name, proxy.istioVersion];
    }),
  ];
}
