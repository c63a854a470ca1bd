/** Which API server, and as whom: the files that kubectl reads, by kubectl's rules. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { isPlainObject } from "../../api/schema/decode.ts";
import { CliError } from "../cli-error.ts";

export interface KubeAccess {
  readonly server: URL;
  /** PEM; absent: the machine's own roots. */
  readonly root?: string | undefined;
  readonly verifiesServer: boolean;
  readonly serverName?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly token?: string | undefined;
}

export interface KubeconfigOptions {
  /** `--kubeconfig`. */
  readonly file?: string | undefined;
  /** `--context`. */
  readonly context?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

type Json = Record<string, unknown>;

/** Throws CliError that names the file. Of several files in KUBECONFIG the first that has the context counts. */
export async function loadKubeAccess({ file, context, env }: KubeconfigOptions): Promise<KubeAccess> {
  const named = file ?? env.KUBECONFIG;
  const files = file ? [file] : named ? named.split(":").filter(Boolean) : [join(env.HOME || homedir(), ".kube", "config")];
  let missing: CliError | undefined;
  for (const path of files) {
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      missing ??= new CliError(`kubeconfig ${path} can't be read: ${(error as Error).message}; name one with --kubeconfig`);
      continue;
    }
    const access = await accessOf(path, text, context);
    if (access) return access;
    missing = new CliError(`${path}: there is no context ${JSON.stringify(context ?? "")}`);
  }
  throw missing ?? new CliError("KUBECONFIG names no file");
}

async function accessOf(path: string, text: string, wanted: string | undefined): Promise<KubeAccess | undefined> {
  let config: unknown;
  try {
    config = parse(text);
  } catch (cause) {
    throw new CliError(`${path}: is no YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (!isPlainObject(config)) throw new CliError(`${path}: is no kubeconfig`);
  const contextName = wanted ?? textOf(config["current-context"]);
  const context = entry(config.contexts, contextName, "context");
  if (!context) return undefined;
  const cluster = entry(config.clusters, textOf(context.cluster), "cluster");
  if (!cluster) throw new CliError(`${path}: context ${JSON.stringify(contextName)} names a cluster that is not there`);
  const user = entry(config.users, textOf(context.user), "user") ?? {};
  const server = URL.parse(textOf(cluster.server) ?? "");
  if (!server || !["http:", "https:"].includes(server.protocol))
    throw new CliError(`${path}: ${JSON.stringify(cluster.server)} is no address of a server`);
  const content = (from: Json, field: string) => load(path, from, field);
  return {
    server,
    root: await content(cluster, "certificate-authority"),
    verifiesServer: cluster["insecure-skip-tls-verify"] !== true,
    serverName: textOf(cluster["tls-server-name"]),
    certificate: await content(user, "client-certificate"),
    key: await content(user, "client-key"),
    token: textOf(user.token) ?? (await loadFile(path, textOf(user.tokenFile)))?.trim(),
  };
}

function entry(list: unknown, name: string | undefined, field: string): Json | undefined {
  if (!Array.isArray(list)) return undefined;
  const found = list.find((one): one is Json => isPlainObject(one) && one.name === name);
  return isPlainObject(found?.[field]) ? found[field] : undefined;
}

/** `FIELD-data` holds it as base64, `FIELD` names a file beside the kubeconfig. */
async function load(path: string, from: Json, field: string): Promise<string | undefined> {
  const data = textOf(from[`${field}-data`]);
  return data === undefined ? await loadFile(path, textOf(from[field])) : Buffer.from(data, "base64").toString("utf8");
}

async function loadFile(path: string, name: string | undefined): Promise<string | undefined> {
  if (name === undefined) return undefined;
  try {
    return await readFile(resolve(dirname(path), name), "utf8");
  } catch (cause) {
    throw new CliError(`${path}: names a file that can't be read: ${(cause as Error).message}`, { cause });
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
