/** `topsail istiod [discovery]`: the control plane's command line. */
import { Command, CommanderError, Option } from "commander";
import { ConfigError } from "../api/config-error.ts";
import { parseDurationMs } from "../api/schema/duration.ts";
import { StoreError } from "../config/store.ts";
import { fail } from "../lib/fail.ts";
import { formatHostPort, HostPortError, parseHostPort } from "../lib/host-port.ts";
import { expectJournal } from "../lib/journal.ts";
import { log } from "../lib/log.ts";
import { ReleaseAfterBursts } from "../platform/release-after-bursts.ts";
import { releaseMemory } from "../platform/release-memory.ts";
import { ServiceManager } from "../platform/service-manager.ts";
import { toldToStop } from "../platform/told-to-stop.ts";
import { type ForeignBundles, parseForeignBundles } from "./ca/trust-bundle.ts";
import { readProxyEnvironment } from "./fetch/proxy-environment.ts";
import { Istiod } from "./istiod.ts";
import type { JwksFetchMode } from "./jwks/jwks-source.ts";
import { defaultServiceRange, isServiceRange } from "./kubeapi/admission/cluster-addresses.ts";

interface Options {
  configDir?: string;
  meshConfig?: string;
  networksConfig?: string;
  dataDir?: string;
  grpcAddr: string;
  secureGRPCAddr: string;
  caDir: string;
  serverName?: string[];
  spiffeBundleEndpoints: string;
  httpsAddr: string;
  kubeAPIAddr: string;
  kubeconfigOut?: string;
  serviceClusterIpRange: string;
  monitoringAddr: string;
  domain: string;
  jwksFetchMode: string;
  jwksRefreshInterval: string;
  ipAutoallocate: string;
  workloadEntryGracePeriod: string;
  log_output_level: string;
}

/** `true` and `false` are what Istio's variable took when there were only two ways. */
const fetchModes: Readonly<Record<string, JwksFetchMode>> = {
  istiod: "istiod",
  false: "istiod",
  hybrid: "hybrid",
  true: "hybrid",
  envoy: "envoy",
};

const maxRefreshMs = 24 * 3_600_000;
const maxGraceMs = 24 * 3_600_000;
/** Sent to proxies: they came in hundreds, or much has changed for all. */
const worthReleasingBytes = 256 * 1024 * 1024;

/** Ports whose services are not part of this version. An address for one of them is refused, so that nobody waits for an answer there. */
const missing = ["httpsAddr"] as const;

export async function main(args: string[]): Promise<number> {
  expectJournal(process.env.JOURNAL_STREAM);
  const command = new Command("topsail istiod")
    .description("Run the control plane: configuration in, xDS out.")
    .argument("[discovery]", "may be given, as on Istio's own command line")
    .option("--configDir <dir>", "directory of YAML and JSON files, watched")
    .option("--meshConfig <file>", "MeshConfig; changes take effect at once")
    .option("--networksConfig <file>", "MeshNetworks: networks and their gateways; changes take effect at once")
    .option("--dataDir <dir>", "where the control plane keeps what it must not forget")
    .option("--grpcAddr <host:port>", "plaintext xDS without authentication, for loopback and tests", "127.0.0.1:15010")
    .option("--monitoringAddr <host:port>", "metrics, version, readiness; debug pages for loopback clients", "127.0.0.1:15014")
    .option("--secureGRPCAddr <host:port>", 'xDS and CA over TLS, every caller authenticated; "" turns it off', ":15012")
    .option("--caDir <dir>", "CA of your own: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem", "./etc/cacerts")
    .option(
      "--serverName <name...>",
      "more DNS names and addresses by which --secureGRPCAddr and --kubeAPIAddr are called, beside those that they name",
    )
    .addOption(
      new Option("--spiffeBundleEndpoints <list>", "roots of other trust domains whose workloads may call: DOMAIN|URL, more behind ||")
        .default("")
        .env("SPIFFE_BUNDLE_ENDPOINTS"),
    )
    .addOption(new Option("--httpsAddr <host:port>", 'webhooks; only "" in this version').default(""))
    .option("--kubeAPIAddr <host:port>", "Kubernetes-compatible API, for kubectl", "")
    .option("--kubeconfig-out <file>", "write a kubeconfig of an administrator of --kubeAPIAddr there, for its owner's eyes alone")
    .option("--service-cluster-ip-range <cidr>", "where Services made through that API get their addresses", defaultServiceRange)
    .option("--domain <domain>", "DNS domain of services", "cluster.local")
    .addOption(
      new Option("--jwksFetchMode <who>", "who fetches the keys of token issuers: istiod, envoy, or hybrid, by proxies where they can")
        .default("istiod")
        .env("PILOT_JWT_ENABLE_REMOTE_JWKS"),
    )
    .addOption(
      new Option("--jwksRefreshInterval <duration>", "how often istiod fetches them anew")
        .default("20m")
        .env("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"),
    )
    .addOption(
      new Option("--ipAutoallocate <bool>", "keep addresses of ServiceEntries that have none in their status; false: hash their names")
        .default("true")
        .choices(["true", "false"])
        .env("PILOT_ENABLE_IP_AUTOALLOCATE"),
    )
    .addOption(
      new Option("--workloadEntryGracePeriod <duration>", "how long the entry of a registered machine outlives its connection")
        .default("10s")
        .env("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD"),
    )
    .option("--log_output_level <levels>", "debug, info, warn, error or none, of scopes too: info,ads:debug", "info")
    .exitOverride();
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const [verb] = command.args;
  if (verb !== undefined && verb !== "discovery") return fail(`unknown command "${verb}"`, "topsail istiod [discovery] --help");
  const options = command.opts<Options>();
  for (const flag of missing) {
    if (options[flag] !== "") return fail(`--${flag} ${options[flag]}: this version does not serve there yet`, `leave --${flag} away`);
  }
  if (options.kubeAPIAddr !== "" && options.secureGRPCAddr === "")
    return fail("--kubeAPIAddr: needs the certificate authority of --secureGRPCAddr, which is turned off");
  if (!isServiceRange(options.serviceClusterIpRange))
    return fail(
      `--service-cluster-ip-range: "${options.serviceClusterIpRange}" is no IPv4 range from /8 to /28`,
      `for example ${defaultServiceRange}`,
    );
  const wrongLevel = log.setLevels(options.log_output_level);
  if (wrongLevel !== undefined) return fail(`--log_output_level: unknown level "${wrongLevel}"`, "debug, info, warn, error or none");
  const jwksFetchMode = Object.hasOwn(fetchModes, options.jwksFetchMode) ? fetchModes[options.jwksFetchMode] : undefined;
  if (!jwksFetchMode) return fail(`--jwksFetchMode: unknown "${options.jwksFetchMode}"`, "istiod, hybrid or envoy");
  const jwksRefreshMs = parseDurationMs(options.jwksRefreshInterval);
  if (!jwksRefreshMs || jwksRefreshMs < 1000 || jwksRefreshMs > maxRefreshMs)
    return fail(`--jwksRefreshInterval: "${options.jwksRefreshInterval}" is no duration from 1s to 24h`, "for example 20m");
  const graceMs = parseDurationMs(options.workloadEntryGracePeriod);
  if (graceMs === undefined || graceMs > maxGraceMs)
    return fail(`--workloadEntryGracePeriod: "${options.workloadEntryGracePeriod}" is no duration up to 24h`, "for example 10s");

  let foreignBundles: ForeignBundles;
  try {
    foreignBundles = parseForeignBundles(options.spiffeBundleEndpoints);
  } catch (error) {
    return fail(`--spiffeBundleEndpoints: ${(error as Error).message}`);
  }

  try {
    const grpc = parseHostPort(options.grpcAddr, "--grpcAddr", "listen");
    const monitoring = parseHostPort(options.monitoringAddr, "--monitoringAddr", "listen");
    const unlessOff = (text: string, flag: string) => (text === "" ? undefined : parseHostPort(text, flag, "listen"));
    const secureGrpc = unlessOff(options.secureGRPCAddr, "--secureGRPCAddr");
    const kubeApi = unlessOff(options.kubeAPIAddr, "--kubeAPIAddr");
    using manager = ServiceManager.connect(process.env);
    manager?.status("Reading configuration");
    const stopped = toldToStop();
    await using istiod = await Istiod.start({
      configDir: options.configDir,
      meshConfig: options.meshConfig,
      networksConfig: options.networksConfig,
      dataDir: options.dataDir,
      grpc,
      secureGrpc,
      authorityDir: options.caDir,
      kubeApi,
      kubeconfigOut: options.kubeconfigOut,
      serviceRange: options.serviceClusterIpRange,
      serverNames: options.serverName ?? [],
      foreignBundles,
      proxies: readProxyEnvironment(process.env),
      monitoring,
      domain: options.domain,
      jwksFetchMode,
      jwksRefreshMs,
      allocatesAddresses: options.ipAutoallocate === "true",
      registration: { graceMs },
    });
    using _ = new ReleaseAfterBursts({ spent: () => istiod.discovery.bytesSent, worth: worthReleasingBytes, release: releaseMemory });
    log.scope("istiod").info("serving", {
      xds: formatHostPort({ host: grpc.host, port: istiod.grpcPort }),
      ...(secureGrpc && istiod.secure ? { secureXds: formatHostPort({ host: secureGrpc.host, port: istiod.secure.port }) } : {}),
      ...(kubeApi && istiod.kubeApiPort ? { kubeAPI: formatHostPort({ host: kubeApi.host, port: istiod.kubeApiPort }) } : {}),
      monitoring: formatHostPort({ host: monitoring.host, port: istiod.monitoringPort }),
      objects: istiod.discovery.store.list().length,
    });
    // The control plane is one thread: that the check ran at all is the answer.
    manager?.watch(async () => undefined);
    manager?.status(`Serving on port ${istiod.secure?.port ?? istiod.grpcPort}`);
    manager?.ready();
    await stopped;
    manager?.stopping();
    return 0;
  } catch (error) {
    return explain(error);
  }
}

function explain(error: unknown): number {
  if (error instanceof ConfigError) return fail(error.describe(), error.hint);
  if (error instanceof StoreError) return fail(error.message);
  if (error instanceof HostPortError) return fail(error.message, "for example 127.0.0.1:15010, or :15010 for all addresses");
  const code = (error as NodeJS.ErrnoException).code;
  const message = error instanceof Error ? error.message : String(error);
  if (code === "EADDRINUSE" || /EADDRINUSE/.test(message))
    return fail(
      message,
      "another process has the port: choose another with --grpcAddr, --secureGRPCAddr, --kubeAPIAddr or --monitoringAddr",
    );
  throw error;
}
