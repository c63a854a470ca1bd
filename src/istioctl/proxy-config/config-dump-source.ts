/** Where a proxy's configuration is read from: its admin port on this machine, or a dump in a file. */
import { readFile } from "node:fs/promises";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";

export interface SourceOptions {
  readonly file?: string;
  /** Port on 127.0.0.1, or `127.0.1.1:15000` for a proxy with a loopback address of its own. */
  readonly proxyAdminPort: string;
}

export type Json = Record<string, unknown>;

/** The part of the dump whose type ends in `name`. */
export async function readConfigDump(name: string, options: SourceOptions, context: CommandContext): Promise<Json> {
  const text = await readText(options, context);
  let dump: { configs?: unknown };
  try {
    dump = JSON.parse(text) as { configs?: unknown };
  } catch (error) {
    throw new CliError(`the config dump is no JSON: ${(error as Error).message}`);
  }
  const configs = Array.isArray(dump?.configs) ? (dump.configs as Json[]) : [];
  const found = configs.find((config) => String(config?.["@type"]).endsWith(`.${name}`));
  if (found) return found;
  throw new CliError(`the config dump has no ${name}`);
}

async function readText({ file, proxyAdminPort }: SourceOptions, context: CommandContext): Promise<string> {
  if (file === "-") return Buffer.from(await context.readStdin()).toString("utf8");
  if (file !== undefined) {
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      throw new CliError(`${file} can't be read: ${(error as Error).message}`);
    }
  }
  const address = /^\d{1,5}$/.test(proxyAdminPort) ? `127.0.0.1:${proxyAdminPort}` : proxyAdminPort;
  if (!/^127\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d{1,5}$/.test(address))
    throw new CliError(`--proxy-admin-port ${proxyAdminPort} is neither a port nor an address of loopback with a port`);
  const url = `http://${address}/config_dump`;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    return await response.text();
  } catch (error) {
    const { cause, message } = error as Error;
    throw new CliError(`no proxy can be asked at ${url}: ${(cause as Error | undefined)?.message ?? message}`);
  }
}
