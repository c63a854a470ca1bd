/**
 * `topsail quickstart`: control plane, ingress gateway and sample mesh in one process, on loopback, without root.
 *
 * The services of the samples have no sidecars here: they call each other through a second listener of the gateway, so that
 * VirtualServices and DestinationRules act on those calls as well.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { Agent } from "../agent/agent.ts";
import { readEnvironment } from "../agent/environment.ts";
import { agentPaths } from "../agent/paths.ts";
import { effectiveProxyConfig } from "../agent/proxy-config.ts";
import { ConfigError } from "../api/config-error.ts";
import { istioAudience } from "../istiod/ca/service-account-tokens.ts";
import { Istiod } from "../istiod/istiod.ts";
import { fail } from "../lib/fail.ts";
import { log } from "../lib/log.ts";
import { type QuickstartPorts, quickstartPorts } from "./ports.ts";
import { configurationFiles, gatewayAccount, gatewayLabels, gatewayNamespace, workloads } from "./sample-mesh.ts";
import { startSampleServers } from "./sample-servers.ts";

interface Options {
  portsFrom?: string;
  dir: string;
  verbose: boolean;
}

/** How long all of it may take to come up; it takes well under a second. */
const startTimeoutMs = 30_000;

export async function main(args: string[]): Promise<number> {
  const command = new Command("topsail quickstart")
    .description("Run a control plane, an ingress gateway and a sample mesh on loopback until Ctrl-C.")
    .option("--ports-from <n>", "take a row of ports from this number on instead of Istio's own")
    .option("--dir <dir>", "where the configuration lies that you edit", "topsail-quickstart")
    .option("--verbose", "log what control plane and gateway do", false)
    .exitOverride();
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const options = command.opts<Options>();
  const from = options.portsFrom === undefined ? undefined : Number(options.portsFrom);
  if (from !== undefined && (!Number.isInteger(from) || from < 1024 || from > 65_000)) {
    return fail(`--ports-from "${options.portsFrom}" is no port from 1024 to 65000`, "for example --ports-from 20000");
  }
  log.setLevel(options.verbose ? "info" : "warn");
  const ports = quickstartPorts(from);
  const directory = resolve(options.dir);
  try {
    await prepare(directory, ports);
    await using parts = await start(directory, ports);
    process.stdout.write(welcome(directory, ports));
    await new Promise<void>((done) => {
      process.once("SIGINT", done);
      process.once("SIGTERM", done);
      void parts.ended.then(() => done());
    });
    return parts.hasFailed ? fail("the gateway has stopped by itself") : 0;
  } catch (error) {
    if (error instanceof ConfigError) return fail(error.describe(), error.hint);
    const message = error instanceof Error ? error.message : String(error);
    if (/EADDRINUSE|[Aa]ddress already in use/.test(message)) return fail(message, "another process has that port; try --ports-from 20000");
    throw error;
  }
}

/** Writes the configuration where there is none; what the user has edited or deleted stays so. */
async function prepare(directory: string, ports: QuickstartPorts): Promise<void> {
  if (existsSync(directory)) return;
  await mkdir(directory, { recursive: true });
  for (const [name, content] of Object.entries(configurationFiles(ports))) await writeFile(join(directory, name), content);
}

interface Running extends AsyncDisposable {
  /** Resolves when the gateway ends by itself. */
  readonly ended: Promise<void>;
  readonly hasFailed: boolean;
}

async function start(directory: string, ports: QuickstartPorts): Promise<Running> {
  await using parts = new AsyncDisposableStack();
  const istiod = parts.use(
    await Istiod.start({
      configDir: directory,
      meshConfig: join(directory, "mesh-config.yaml"),
      grpc: { host: "127.0.0.1", port: ports.xds },
      secureGrpc: { host: "127.0.0.1", port: ports.secureXds },
      kubeApi: { host: "127.0.0.1", port: ports.kubeApi },
      kubeconfigOut: join(directory, "kubeconfig"),
      monitoring: { host: "127.0.0.1", port: ports.monitoring },
      domain: "cluster.local",
    }),
  );
  parts.use(await startSampleServers(ports));
  // What the agent writes is its own and goes with it.
  const scratch = await mkdtemp(join(tmpdir(), "topsail-quickstart-"));
  parts.defer(() => rm(scratch, { recursive: true, force: true }));
  await writeCredentials(istiod, scratch);
  const agent = parts.use(
    await Agent.start({
      type: "router",
      environment: readEnvironment({
        POD_NAME: "istio-ingressgateway",
        POD_NAMESPACE: gatewayNamespace,
        SERVICE_ACCOUNT: gatewayAccount,
        INSTANCE_IP: "127.0.0.1",
        TOPSAIL_BIND_ADDRESS: "127.0.0.1",
        ENVOY_STATUS_PORT: String(ports.ready),
        ENVOY_PROMETHEUS_PORT: String(ports.stats),
        ISTIO_METAJSON_LABELS: JSON.stringify(gatewayLabels),
      }),
      proxyConfig: effectiveProxyConfig(
        undefined,
        JSON.stringify({
          configPath: scratch,
          discoveryAddress: `127.0.0.1:${ports.secureXds}`,
          proxyAdminPort: ports.admin,
          statusPort: ports.status,
          concurrency: 1,
          drainDuration: "5s",
        }),
      ),
      root: scratch,
      addresses: ["127.0.0.1"],
      usesBinary: false,
      concurrency: 0,
      logLevel: "warning",
      statusHost: "127.0.0.1",
    }),
  );
  await agent.ready(AbortSignal.timeout(startTimeoutMs));
  const moved = parts.move();
  let hasFailed = false;
  return {
    ended: agent.proxy.exited.then((code) => {
      hasFailed = code !== 0;
    }),
    get hasFailed() {
      return hasFailed;
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** What an agent needs to begin: the root by which it knows the control plane, and a token by which it is known. */
async function writeCredentials({ secure }: Istiod, root: string): Promise<void> {
  const paths = agentPaths(root);
  const account = { namespace: gatewayNamespace, serviceAccount: gatewayAccount };
  const { token } = await secure!.tokens.issue(account, [istioAudience], 24 * 3600);
  for (const [path, content] of [
    [paths.token, token],
    [paths.root, secure!.authority.trustBundle],
  ] as const) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(path, content, { mode: 0o600 });
  }
}

function welcome(directory: string, ports: QuickstartPorts): string {
  const shown = relative(process.cwd(), directory) || directory;
  const url = `http://localhost:${ports.http}`;
  return `
Topsail is up: a control plane, an ingress gateway and ${workloads.length} sample workloads, all on loopback.

  ingress gateway   ${url}
  gateway's admin   http://localhost:${ports.admin}      (config_dump, clusters, stats ...)
  control plane     http://localhost:${ports.monitoring}/debug/list
  configuration     ${shown}/                kubectl --kubeconfig ${shown}/kubeconfig get vs

Try:
  1. Open ${url}/productpage in a browser: a book with black stars.
  2. In ${shown}/reviews.yaml give v3 the weight 100 and v2 the weight 0, save, reload: red stars.
  3. curl -i http://httpbin.localhost:${ports.http}/headers      what the gateway adds to a request

Ctrl-C stops everything.
`;
}
