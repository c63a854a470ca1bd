/** Envoy and our proxy as two of a kind: a name, listeners on free ports, an admin interface. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProxyServerOptions } from "../../src/proxy/server-options.ts";
import { startEnvoy } from "./envoy.ts";
import { startProxyServer } from "./proxy-server.ts";
import { patienceMs } from "./raw-client.ts";

export interface RunningProxy extends AsyncDisposable {
  readonly name: "envoy" | "topsail";
  readonly adminPort: number;
  /** Throws for a listener that is not there. */
  listenerPort(name: string): Promise<number>;
  admin(path: string, method?: "GET" | "POST"): Promise<string>;
  /** What it logged so far. */
  log(): string;
}

/**
 * A secret that nobody has is told by no answer over state of the world: a listener that names one keeps its proxy from being LIVE for
 * the 15 s of Envoy's initial fetch timeout. What a loaded machine needs comes on top.
 */
const startPatienceMs = 15_000 + 6 * patienceMs;

/** Resolves when it is LIVE. */
export async function startRealEnvoy(bootstrap: unknown, options: { readonly concurrency?: number } = {}): Promise<RunningProxy> {
  await using parts = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), "topsail-envoy-"));
  parts.defer(() => rmSync(directory, { recursive: true, force: true }));
  const [file, addressFile] = [join(directory, "bootstrap.json"), join(directory, "admin")];
  writeFileSync(file, JSON.stringify(bootstrap));
  const args = ["--concurrency", String(options.concurrency ?? 1), "--admin-address-path", addressFile, "--file-flush-interval-msec", "50"];
  const envoy = parts.use(startEnvoy(["-c", file, "--drain-time-s", "1", "--drain-strategy", "immediate", ...args]));
  const mustRun = () => {
    if (envoy.process.exitCode !== null) throw new Error(`Envoy ended:\n${envoy.output()}`);
  };
  const adminPort = await eventually(() => {
    mustRun();
    return Number(readText(addressFile).split(":")[1]) || undefined;
  }, "Envoy's admin address");
  const proxy = described("envoy", adminPort, envoy.output);
  await eventually(
    async () => (await proxy.admin("/ready").catch(mustRun))?.includes("LIVE") || undefined,
    () => `Envoy LIVE: ${envoy.output()}`,
    startPatienceMs,
  );
  const moved = parts.move();
  return { ...proxy, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** The same from our proxy, in this process. */
export async function startOurProxy(bootstrap: unknown, options: Partial<ProxyServerOptions> = {}): Promise<RunningProxy> {
  await using parts = new AsyncDisposableStack();
  const proxy = parts.use(await startProxyServer(bootstrap, { fileFlushIntervalMs: 50, logLevel: "warning", ...options }));
  // A dead worker shows as refused connections; the reason is in the log.
  proxy.server.failed.catch((error: Error) => proxy.log.push(`${error.stack}\n`));
  const problem = proxy.server.live.then(
    () => undefined,
    (error: unknown) => error as Error,
  );
  await eventually(
    () => (proxy.server.state === "LIVE" ? true : undefined),
    () => `LIVE, but ${proxy.server.state}:\n${proxy.log.join("").slice(-4000)}`,
    startPatienceMs,
  );
  const error = await problem;
  if (error) throw error;
  const described_ = described("topsail", proxy.server.adminAddress!.port, () => proxy.log.join(""));
  const moved = parts.move();
  return { ...described_, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

function described(name: RunningProxy["name"], adminPort: number, log: () => string) {
  const admin = async (path: string, method: "GET" | "POST" = "GET") => {
    const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, { method });
    return response.text();
  };
  return {
    name,
    adminPort,
    admin,
    log,
    async listenerPort(listener: string): Promise<number> {
      const { listener_statuses = [] } = JSON.parse(await admin("/listeners?format=json")) as ListenerList;
      const port = listener_statuses.find((status) => status.name === listener)?.local_address.socket_address?.port_value;
      if (port === undefined) throw new Error(`${name} has no listener ${listener}`);
      return port;
    },
  };
}

interface ListenerList {
  readonly listener_statuses?: readonly {
    readonly name: string;
    readonly local_address: { readonly socket_address?: { readonly port_value: number } };
  }[];
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Asks until there is an answer. Only for what gives no event: another process's state. */
export async function eventually<T>(
  probe: () => T | undefined | Promise<T | undefined>,
  what: string | (() => string),
  withinMs = 3 * patienceMs,
): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() > deadline) throw new Error(`not in time: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}
