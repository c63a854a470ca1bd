/** `topsail sample APP [--service NAME] [--version V] [--listen HOST:PORT] [--via URL]`: one service of the sample mesh. */
import { Command, CommanderError } from "commander";
import { fail } from "../lib/fail.ts";
import { formatHostPort, type HostPort, HostPortError, parseHostPort } from "../lib/host-port.ts";
import { samples } from "./index.ts";
import { SampleServer } from "./sample.ts";

interface Options {
  service?: string;
  version: string;
  listen: string;
  via?: string;
  domain?: string;
}

export async function main(args: string[]): Promise<number> {
  const command = new Command("topsail sample")
    .description("Run one service of the sample mesh until it is stopped.")
    .argument("<app>", `application: ${Object.keys(samples).join(", ")}`)
    .option("--service <name>", "service of the application; needed for bookinfo")
    .option("--version <version>", "version of the service", "v1")
    .option("--listen <host:port>", "where to listen", "127.0.0.1:9080")
    .option("--via <url>", "send calls to other services here, with their names as Host, instead of to their names")
    .option("--domain <domain>", "completes the names of other services, for example default.svc.cluster.local")
    .exitOverride();
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const [app = ""] = command.args;
  const options = command.opts<Options>();
  const services = Object.hasOwn(samples, app) ? samples[app] : undefined;
  if (!services) return fail(`no sample "${app}"`, `one of ${Object.keys(samples).join(", ")}`, 2);
  const names = Object.keys(services);
  const name = options.service ?? (names.length === 1 ? names[0]! : "");
  const service = Object.hasOwn(services, name) ? services[name] : undefined;
  if (!service) return fail(`sample "${app}" has no service "${name}"`, `--service is one of ${names.join(", ")}`, 2);
  if (!service.versions.includes(options.version))
    return fail(`${name} has no version "${options.version}"`, `one of ${service.versions.join(", ")}`, 2);
  let address: HostPort;
  try {
    address = parseHostPort(options.listen, "--listen", "listen");
  } catch (error) {
    if (error instanceof HostPortError) return fail(error.message, "for example 127.0.0.1:9080", 2);
    throw error;
  }
  if (options.via !== undefined && !URL.canParse(options.via))
    return fail(`--via "${options.via}" is no URL`, "for example http://127.0.0.1:9080", 2);

  await using server = await SampleServer.start(
    service.create(),
    { version: options.version, workload: `${name}-${options.version}`, via: options.via, domain: options.domain },
    address.host,
    address.port,
  );
  process.stdout.write(`${name} ${options.version} listens on ${formatHostPort({ host: address.host, port: server.port })}\n`);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  return 0;
}
