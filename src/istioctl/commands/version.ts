/** `istioctl version`: of this program, of the control planes, and of the proxies that are connected. Source: Istio pkg/version/cobra.go. */
import { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext, IstioctlCommand } from "../command.ts";
import { connectedProxies, findControlPlanes, type ProxySync } from "../control-plane/ask-control-planes.ts";
import { type BuildInfo, clientBuild, longForm, parseBuildInfo } from "../control-plane/build-info.ts";
import { type Json, yamlText } from "../output/proto-json.ts";
import { parseBoolean } from "../proxy-config/boolean-flag.ts";

interface Options {
  readonly short: boolean;
  readonly remote: boolean;
  readonly output?: string;
}

export const version: IstioctlCommand = {
  name: "version",
  create: (context) =>
    new Command("version")
      .summary("Prints out build version information")
      .option("-s, --short [bool]", "use --short=false to generate full version information", parseBoolean("--short"), true)
      .option("--remote [bool]", "use --remote=false to suppress control plane check", parseBoolean("--remote"), true)
      .option("-o, --output <format>", "one of 'yaml' or 'json'")
      .action((options: Options) => printVersion(options, context)),
};

interface ServerInfo {
  readonly component: string;
  readonly revision: string;
  readonly info: BuildInfo;
}

interface Mesh {
  readonly servers: readonly ServerInfo[];
  readonly proxies: readonly ProxySync[];
}

async function printVersion({ short, remote, output }: Options, context: CommandContext): Promise<void> {
  if (output && output !== "json" && output !== "yaml") throw new CliError("--output must be 'yaml' or 'json'");
  const mesh = remote ? await askMesh(context) : undefined;
  if (output === "json") context.out(`${JSON.stringify(document(mesh), null, 2)}\n`);
  else if (output === "yaml") context.out(yamlText(document(mesh)));
  else if (short) context.out(shortText(mesh));
  else context.out(longText(mesh));
}

/** A mesh that can't be asked is told and is no failure: the command still knows its own version. */
async function askMesh(context: CommandContext): Promise<Mesh | undefined> {
  try {
    const planes = await findControlPlanes(context);
    const servers = await Promise.all(
      planes.map(async ({ component, revision, get }) => ({ component, revision, info: parseBuildInfo(await get("/version")) })),
    );
    return { servers, proxies: (await Promise.all(planes.map(connectedProxies))).flat() };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    context.err(`Istio is not present in the cluster: ${error.message}\n`);
    return undefined;
  }
}

function shortText(mesh: Mesh | undefined): string {
  const lines = [`client version: ${clientBuild.version}`];
  if (mesh) {
    const versions = new Set(mesh.servers.map(({ info }) => info.version));
    if (versions.size === 1) lines.push(`control plane version: ${[...versions][0]}`);
    else lines.push(...mesh.servers.map(({ component, info }) => `${component} version: ${info.version}`));
    lines.push(`data plane version: ${proxyVersions(mesh.proxies)}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function proxyVersions(proxies: readonly ProxySync[]): string {
  const counts = new Map<string, number>();
  for (const { istioVersion } of proxies) counts.set(istioVersion, (counts.get(istioVersion) ?? 0) + 1);
  const texts = [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([version, count]) => `${version} (${count} proxies)`);
  return texts.join(", ") || "none";
}

function longText(mesh: Mesh | undefined): string {
  const lines = [
    `client version: ${longForm(clientBuild)}`,
    ...(mesh?.servers ?? []).map(({ component, info }) => `${component} version: ${longForm(info)}`),
    ...(mesh?.proxies ?? []).map(
      ({ id, istioVersion, type }) =>
        `data plane version: version.ProxyInfo{ID:${JSON.stringify(id)}, IstioVersion:${JSON.stringify(istioVersion)}, Type:${JSON.stringify(userType(type))}}`,
    ),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function document(mesh: Mesh | undefined): { readonly [name: string]: Json } {
  return {
    clientVersion: { ...clientBuild },
    ...(mesh && {
      meshVersion: mesh.servers.map(({ component, revision, info }) => ({ Component: component, Revision: revision, Info: { ...info } })),
      dataPlaneVersion: mesh.proxies.map(({ id, istioVersion, type }) => ({ ID: id, IstioVersion: istioVersion, Type: userType(type) })),
    }),
  };
}

function userType(type: string): string {
  return type === "router" ? "gateway" : type;
}
