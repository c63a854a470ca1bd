import { Command } from "commander";
import { stringify } from "yaml";
import { version as programVersion, revision } from "../../lib/version.ts";
import { CliError } from "../cli-error.ts";
import type { CommandContext, IstioctlCommand } from "../command.ts";

interface VersionOptions {
  readonly short: boolean;
  readonly output?: string;
}

/** Istio's names, so that scripts that read them go on working; the Go version is of no use here and names the runtime. */
const clientVersion = {
  version: programVersion,
  revision,
  golang_version: `node ${process.version}`,
  status: "Clean",
  tag: programVersion,
};

export const version: IstioctlCommand = {
  name: "version",
  create: (context) =>
    new Command("version")
      .summary("Prints out build version information")
      .option("-s, --short <bool>", "use --short=false to generate full version information", parseBoolean, true)
      .option("-o, --output <format>", "one of 'yaml' or 'json'")
      .action((options: VersionOptions) => printVersion(options, context)),
};

function printVersion(options: VersionOptions, context: CommandContext): void {
  switch (options.output) {
    case undefined:
    case "": {
      const { version: short, ...details } = clientVersion;
      const long = Object.entries(details).map(([name, value]) => `, ${name}: ${value}`);
      context.out(`client version: ${short}${options.short ? "" : long.join("")}\n`);
      break;
    }
    case "json":
      context.out(`${JSON.stringify({ clientVersion }, null, 2)}\n`);
      break;
    case "yaml":
      context.out(stringify({ clientVersion }));
      break;
    default:
      throw new CliError("--output must be 'yaml' or 'json'");
  }
}

function parseBoolean(text: string): boolean {
  if (/^(true|1|t)$/i.test(text)) return true;
  if (/^(false|0|f)$/i.test(text)) return false;
  throw new CliError(`--short must be true or false, not ${JSON.stringify(text)}`, { exitCode: 64 });
}
