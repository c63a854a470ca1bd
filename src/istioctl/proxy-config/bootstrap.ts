/** `istioctl proxy-config bootstrap`. Source: Istio istioctl/pkg/writer/envoy/configdump/configdump.go. */
import type { Command } from "commander";
import type { CommandContext } from "../command.ts";
import { type JsonObject, numberAt, objectAt, textAt } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { readConfigDump, type SourceOptions, sourceCommand } from "./proxy-source.ts";
import { withoutType } from "./without-type.ts";

export function bootstrapCommand(context: CommandContext): Command {
  const summary = "Retrieves bootstrap configuration for the Envoy in the specified pod";
  return sourceCommand("bootstrap", ["b"], summary, "json").action(async (target: string | undefined, options: SourceOptions) => {
    const dump = await readConfigDump("BootstrapConfigDump", "bootstrap", target, options, context);
    const node = objectAt(dump, "bootstrap", "node");
    printDump(options.output, context, { table: () => formatTable(rowsOf(node), 1), dump: () => withoutType(dump) });
  });
}

function rowsOf(node: JsonObject): string[][] {
  const sha = textAt(node, "metadata", "ISTIO_PROXY_SHA");
  const rows = [
    ["Istio Version:", textAt(node, "metadata", "ISTIO_VERSION")],
    ["Istio Proxy Version:", sha.includes(":") ? sha.split(":")[1]! : sha],
    ["Envoy Version:", envoyVersion(objectAt(node, "user_agent_build_version"))],
  ];
  return rows.filter(([, value]) => value !== "");
}

function envoyVersion(build: JsonObject): string {
  const version = objectAt(build, "version");
  const number = ["major_number", "minor_number", "patch"].map((part) => numberAt(version, part)).join(".");
  const about = (key: string) => textAt(build, "metadata", key);
  const label = about("build.label");
  const rest = ["revision.status", "build.type", "ssl.version"].map(about).filter(Boolean);
  return [`${number}${label && `-${label}`}`, ...rest].join("/");
}
