/** `topsail envoy`: the proxy with Envoy's command line. argv, signals and exit are here and nowhere else in proxy/. */
import { createWriteStream } from "node:fs";
import { ConfigError } from "../api/config-error.ts";
import { createLog, type Log } from "../lib/log.ts";
import { type CommandLine, parseCommandLine, usage } from "./command-line.ts";
import { loadBootstrap } from "./config/bootstrap.ts";
import { validateBootstrap } from "./config/validate-bootstrap.ts";
import { buildVersion } from "./envoy-version.ts";
import { releaseMemoryOf } from "./release-memory.ts";
import { ProxyServer } from "./server.ts";

/** A drain that SIGTERM began ends at the latest after this, or after --drain-time-s where that is less. */
const maxTerminationDrainMs = 30_000;

export async function main(args: string[]): Promise<number> {
  let line: CommandLine;
  try {
    line = parseCommandLine(args);
  } catch (error) {
    process.stderr.write(`error: ${(error as Error).message}\n${usage.split("\n")[0]}\n`);
    return 1;
  }
  if (line.help) {
    process.stdout.write(usage);
    return 0;
  }
  if (line.version) {
    process.stdout.write(`\nenvoy  version: ${buildVersion}\n\n`);
    return 0;
  }
  const log = openLog(line.logPath);
  const file = line.source.path ?? "";
  try {
    const bootstrap = loadBootstrap(line.source);
    if (line.mode !== "serve") {
      if (line.mode === "validate") {
        validateBootstrap(bootstrap.bootstrap, line.serviceNode, line.serviceCluster, (message) => log.scope("config").warn(message));
      }
      for (const warning of bootstrap.warnings) log.scope("config").warn(warning);
      process.stdout.write(`configuration '${file}' OK\n`);
      return 0;
    }
    return await serve(line, bootstrap, log);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const place = error.position ? ` (${error.position.file}:${error.position.line}${error.field ? `: ${error.field}` : ""})` : "";
    const hint = error.hint ? `\nhint: ${error.hint}` : "";
    process.stderr.write(`error initializing configuration '${file}': ${error.message}${place}${hint}\n`);
    return 1;
  }
}

async function serve(line: CommandLine, bootstrap: ReturnType<typeof loadBootstrap>, log: Log): Promise<number> {
  const { promise: quit, resolve: onQuit } = Promise.withResolvers<void>();
  const main = log.scope("main");
  await using server = await ProxyServer.start({ ...line.server, bootstrap, source: line.source, log, onQuit });
  using _ = releaseMemoryOf(server);
  for (const warning of bootstrap.warnings) log.scope("config").warn(warning);
  main.info("starting main dispatch loop", { version: buildVersion, concurrency: server.options.concurrency });

  const { promise: secondSignal, resolve: onSecondSignal } = Promise.withResolvers<void>();
  const { promise: firstSignal, resolve: onFirstSignal } = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    signals++;
    main.warn(`caught ${signal}`);
    if (signals === 1) onFirstSignal();
    else onSecondSignal();
  };
  const handlers: [NodeJS.Signals, (signal: NodeJS.Signals) => void][] = [
    ["SIGTERM", onSignal],
    ["SIGINT", onSignal],
    ["SIGHUP", () => {}],
    ["SIGUSR1", () => server.reopenLogs()],
  ];
  for (const [signal, handler] of handlers) process.on(signal, handler);
  try {
    // Static configuration that can't be brought up ends the program; a dead worker too.
    const failed = Promise.all([server.live, new Promise<never>(() => {})]);
    const reason = await Promise.race([quit.then(() => "quit"), firstSignal.then(() => "signal"), failed, server.failed]);
    if (reason === "signal") {
      const withinMs = Math.min(line.server.drainTimeMs ?? maxTerminationDrainMs, maxTerminationDrainMs);
      main.info("draining", { withinMs });
      await Promise.race([server.drain(withinMs), secondSignal, quit]);
    }
    main.info("exiting");
    return 0;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    main.error("the proxy cannot go on", { error });
    return 1;
  } finally {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
}

function openLog(path: string): Log {
  if (path === "") return createLog();
  const stream = createWriteStream(path, { flags: "a" });
  stream.on("error", (error) => process.stderr.write(`cannot write the log to ${path}: ${error.message}\n`));
  return createLog({ write: (text) => void stream.write(text) });
}
