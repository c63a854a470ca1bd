/** `istioctl proxy-config routes`. Source: Istio istioctl/pkg/writer/envoy/configdump/route.go. */
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type JsonObject, objectAt, objectsAt, textAt, textsAt } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { parseBoolean } from "./boolean-flag.ts";
import { describeMatch } from "./describe-route.ts";
import { managedBy } from "./managed-by.ts";
import { readConfigDump, type SourceOptions, sourceCommand } from "./proxy-source.ts";
import { withoutType } from "./without-type.ts";

interface Options extends SourceOptions {
  readonly name?: string;
  readonly verbose: boolean;
}

const shownDomains = 2;

export function routesCommand(context: CommandContext): Command {
  return sourceCommand("route", ["routes", "r"], "Retrieves route configuration for the Envoy in the specified pod")
    .option("--name <name>", "filter routes by route name field")
    .option("--verbose [bool]", "output more information", parseBoolean("--verbose"), true)
    .action((target: string | undefined, options: Options) => showRoutes(target, options, context));
}

async function showRoutes(target: string | undefined, options: Options, context: CommandContext): Promise<void> {
  const dump = await readConfigDump("RoutesConfigDump", "dynamic_route_configs,static_route_configs", target, options, context);
  const all = [...objectsAt(dump, "dynamic_route_configs"), ...objectsAt(dump, "static_route_configs")].map((entry) =>
    objectAt(entry, "route_config"),
  );
  if (all.length === 0) throw new CliError("no routes found");
  const routes = numbersInOrder(all).filter((route) => !options.name || textAt(route, "name") === options.name);
  printDump(options.output, context, {
    table: () =>
      options.verbose
        ? formatTable([["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"], ...routes.flatMap(rowsOf)], 5)
        : formatTable([["NAME", "VIRTUAL HOSTS"], ...routes.map(countRow)], 5),
    dump: () => routes.map(withoutType),
  });
}

/** Names that are numbers ascend; the others stay where they are. So an insertion sort has it, whose order is defined for this too. */
function numbersInOrder(routes: readonly JsonObject[]): JsonObject[] {
  const numberOf = (route: JsonObject) => (/^\d+$/.test(textAt(route, "name")) ? Number(textAt(route, "name")) : Number.NaN);
  const sorted = [...routes];
  for (let index = 1; index < sorted.length; index++) {
    for (let at = index; at > 0 && numberOf(sorted[at]!) < numberOf(sorted[at - 1]!); at--) {
      [sorted[at - 1], sorted[at]] = [sorted[at]!, sorted[at - 1]!];
    }
  }
  return sorted;
}

function countRow(route: JsonObject): string[] {
  return [textAt(route, "name"), String(objectsAt(route, "virtual_hosts").length)];
}

function rowsOf(configuration: JsonObject): string[][] {
  const name = textAt(configuration, "name");
  return objectsAt(configuration, "virtual_hosts").flatMap((host) => {
    const place = [name, textAt(host, "name"), describeDomains(textsAt(host, "domains"))];
    const routes = objectsAt(host, "routes");
    if (routes.length === 0) return [[...place, "/*", "404"]];
    return routes
      .filter((route) => textAt(route, "route", "cluster") !== "PassthroughCluster")
      .map((route) => [...place, describeMatch(objectAt(route, "match")), managedBy(route)]);
  });
}

/** Those without port; a short form stands for its long ones. */
function describeDomains(domains: readonly string[]): string {
  if (domains.length < 2) return domains[0] ?? "";
  const withoutPort = domains.filter((domain) => !domain.includes(":") || (domain.split(":").length > 3 && domain.endsWith("]")));
  const all = new Set(withoutPort);
  const isLongForm = (domain: string) =>
    [".svc.cluster.local", ".svc"].some((suffix) => domain.endsWith(suffix) && all.has(domain.slice(0, -suffix.length)));
  const shown = withoutPort.filter((domain) => !isLongForm(domain));
  const more = shown.length - shownDomains;
  return `${shown.slice(0, shownDomains).join(", ")}${more > 0 ? ` + ${more} more...` : ""}`;
}
