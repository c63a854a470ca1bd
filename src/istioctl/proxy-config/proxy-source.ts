/**
 * Where a proxy's configuration is read from: the proxy of a pod, by the Kubernetes API; a dump in a file; or, when neither is named, the
 * admin port of this machine.
 */
import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { KubeError } from "../kube/kube-client.ts";
import { type Pod, podProxyPath, resolvePod } from "../kube/resolve-pod.ts";
import { type JsonObject, objectsAt } from "../output/json-fields.ts";

export interface SourceOptions {
  readonly file?: string;
  readonly output: string;
  readonly proxyAdminPort: string;
}

const timeoutMs = 10_000;

/** A command of proxy-config with what all of them take. */
export function sourceCommand(name: string, aliases: readonly string[], summary: string, defaultOutput = "short"): Command {
  return new Command(name)
    .aliases([...aliases])
    .summary(summary)
    .argument("[[type/]name[.namespace]]", "pod, or what selects one, such as deploy/reviews-v1; default: the proxy of this machine")
    .option("-f, --file <file>", "what the proxy's admin interface answered, instead of asking it; - for standard input")
    .option("-o, --output <format>", "one of 'json', 'yaml' or 'short'", defaultOutput)
    .option("--proxy-admin-port <port>", "admin port of the proxy", "15000");
}

/** The part of the dump whose type ends in `name`. */
export async function readConfigDump(
  name: string,
  mask: string,
  target: string | undefined,
  options: SourceOptions,
  context: CommandContext,
): Promise<JsonObject> {
  const dump = await readAdminJson(`/config_dump?mask=${mask}`, target, options, context);
  const found = objectsAt(dump, "configs").find((config) => String(config["@type"]).endsWith(`.${name}`));
  if (found) return found;
  throw new CliError(`the config dump has no ${name}`);
}

/** Throws CliError when it is no JSON. */
export async function readAdminJson(
  path: string,
  target: string | undefined,
  options: SourceOptions,
  context: CommandContext,
): Promise<unknown> {
  const text = await readText(path, target, options, context);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new CliError(`the config dump is no JSON: ${(error as Error).message}`);
  }
}

async function readText(path: string, target: string | undefined, options: SourceOptions, context: CommandContext): Promise<string> {
  const { file } = options;
  if (file !== undefined && target !== undefined) throw new CliError("either a name or --file, not both", { exitCode: 64 });
  if (file === "-") return Buffer.from(await context.readStdin()).toString("utf8");
  if (file !== undefined) {
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      throw new CliError(`${file} can't be read: ${(error as Error).message}`);
    }
  }
  const port = parsePort(options.proxyAdminPort);
  return target === undefined ? askLocal("GET", path, port) : askPod("GET", path, await resolvePod(target, context), port, context);
}

export function parsePort(text: string, flag = "--proxy-admin-port"): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535) throw new CliError(`${flag} ${text} is no port`);
  return port;
}

/** What the admin interface of a pod's proxy answers. */
export async function askPod(method: "GET" | "POST", path: string, pod: Pod, port: number, context: CommandContext): Promise<string> {
  try {
    return await (await context.kube()).text(method, podProxyPath(pod, port, path));
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    throw new CliError(`failed to execute command on ${pod.name}.${pod.namespace} sidecar: ${error.message}`, { cause: error });
  }
}

/** The same of this machine's proxy. */
export async function askLocal(method: "GET" | "POST", path: string, port: number): Promise<string> {
  const url = `http://127.0.0.1:${port}${path}`;
  try {
    const response = await fetch(url, { method, signal: AbortSignal.timeout(timeoutMs) });
    const text = await response.text();
    if (!response.ok) throw new Error(`it answers ${response.status}: ${text.trim()}`);
    return text;
  } catch (error) {
    const { cause, message } = error as Error;
    throw new CliError(`no proxy can be asked at ${url}: ${(cause as Error | undefined)?.message ?? message}`);
  }
}
