/**
 * `topsail quickstart`: control plane, ingress gateway and sample mesh in one process, on loopback, without root.
 *
 * Gateway and workloads have an agent and a proxy each, with a node, a token, a key and a certificate of their own.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { ConfigError } from "../api/config-error.ts";
import { Istiod } from "../istiod/istiod.ts";
import { fail } from "../lib/fail.ts";
import { log } from "../lib/log.ts";
import { releaseMemory } from "../platform/release-memory.ts";
import { WorkerThread } from "../proxy/worker-thread.ts";
import { meshNodes, startAgent } from "./mesh-agent.ts";
import { type QuickstartPorts, quickstartPorts } from "./ports.ts";
import { configurationFiles, workloads } from "./sample-mesh.ts";
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
    .option("--verbose", "log what control plane and proxies do", false)
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
    return parts.hasFailed ? fail("a proxy has stopped by itself") : 0;
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
  /** Resolves when a proxy ends by itself. */
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
  // What the agents write is their own and goes with them.
  const scratch = await mkdtemp(join(tmpdir(), "topsail-quickstart-"));
  parts.defer(() => rm(scratch, { recursive: true, force: true }));
  // A thread for each proxy would cost some 30 MB apiece: docs/decisions/0009.
  const workerThreads = [parts.use(new WorkerThread("worker_0"))];
  const agents = await Promise.all(
    meshNodes().map(async (node) => parts.use(await startAgent(node, { istiod, ports, scratch, workerThreads }))),
  );
  const signal = AbortSignal.timeout(startTimeoutMs);
  await Promise.all(agents.map((agent) => agent.ready(signal)));
  releaseMemory();
  const moved = parts.move();
  let hasFailed = false;
  return {
    ended: Promise.race(agents.map(({ proxy }) => proxy.exited)).then((code) => {
      hasFailed = code !== 0;
    }),
    get hasFailed() {
      return hasFailed;
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

function welcome(directory: string, ports: QuickstartPorts): string {
  const shown = relative(process.cwd(), directory) || directory;
  const url = `http://localhost:${ports.http}`;
  return `
Topsail is up: a control plane, an ingress gateway and ${workloads.length} sample workloads with a sidecar each, all on loopback.

  ingress gateway   ${url}
  gateway's admin   http://localhost:${ports.admin}      (config_dump, clusters, stats ...)
  control plane     http://localhost:${ports.monitoring}/debug/list
  workloads         ${workloads[0]!.address} and on       (sidecar :${ports.inbound}, application :${ports.application}, admin :${ports.admin})
  configuration     ${shown}/                kubectl --kubeconfig ${shown}/kubeconfig get vs

Try:
  1. Open ${url}/productpage in a browser: a book with black stars.
  2. In ${shown}/reviews.yaml give v3 the weight 100 and v2 the weight 0, save, reload: red stars.
  3. curl -i http://httpbin.localhost:${ports.http}/headers      what the gateway adds to a request

Ctrl-C stops everything.
`;
}
