/** `istioctl proxy-config log`: the log levels of a proxy, shown and changed. Source: Istio istioctl/pkg/proxyconfig/proxyconfig.go. */
import { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type Pod, resolvePods } from "../kube/resolve-pod.ts";
import { askLocal, askPod, parsePort } from "./proxy-source.ts";

interface Options {
  readonly level?: string;
  readonly reset?: boolean;
  readonly proxyAdminPort: string;
}

const levels: Readonly<Record<string, string>> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warning: "warning",
  warn: "warning",
  error: "error",
  critical: "critical",
  off: "off",
};
const allLoggers = "level";

export function logCommand(context: CommandContext): Command {
  return new Command("log")
    .alias("o")
    .summary("Retrieves logging levels of the Envoy in the specified pod")
    .argument("[[type/]name[.namespace]]", "pod, or what selects some, such as deploy/reviews-v1; default: the proxy of this machine")
    .option("--level <levels>", "[<logger>:]<level>,... to set, of trace, debug, info, warning, error, critical and off")
    .option("-r, --reset", "set all levels to the default, warning")
    .option("--proxy-admin-port <port>", "admin port of the proxy", "15000")
    .action((target: string | undefined, options: Options) => showLevels(target, options, context));
}

async function showLevels(target: string | undefined, options: Options, context: CommandContext): Promise<void> {
  if (options.reset && options.level !== undefined) throw new CliError("--level cannot be combined with --reset");
  const port = parsePort(options.proxyAdminPort);
  const wanted = options.reset ? new Map([[allLoggers, "warning"]]) : parseLevels(options.level ?? "");
  for (const pod of target === undefined ? [undefined] : await resolvePods(target, context)) {
    const ask = (query: string) =>
      pod ? askPod("POST", `/logging${query}`, pod, port, context) : askLocal("POST", `/logging${query}`, port);
    const loggers = await ask("");
    for (const logger of wanted.keys()) {
      // The name alone, in a line of the list.
      if (logger !== allLoggers && !new RegExp(`^\\s*${RegExp.escape(logger)}:`, "m").test(loggers))
        throw new CliError(`unrecognized logger name: ${logger}`);
    }
    let shown = loggers;
    for (const [logger, level] of wanted) shown = await ask(`?${encodeURIComponent(logger)}=${level}`);
    context.out(`${nameOf(pod)}:\n${shown}`);
  }
}

function nameOf(pod: Pod | undefined): string {
  return pod ? `${pod.name}.${pod.namespace}` : "localhost";
}

/** All loggers first, so that what is said of one of them holds. A logger may be written behind a scope: `scope::logger:level`. */
function parseLevels(text: string): ReadonlyMap<string, string> {
  const parsed = text
    .split(",")
    .filter(Boolean)
    .map((part): readonly [string, string] => {
      const { logger = allLoggers, level = "" } =
        /^(?:(?<logger>[^:=]+)[:=])?(?<level>[^:=]+)$/.exec(part.split("::").at(-1)!)?.groups ?? {};
      if (!Object.hasOwn(levels, level)) throw new CliError(`unrecognized logging level: ${level || part}`);
      return [logger, levels[level]!];
    });
  const isForAll = ([logger]: readonly [string, string]) => logger === allLoggers;
  return new Map([...parsed.filter(isForAll), ...parsed.filter((one) => !isForAll(one))]);
}
