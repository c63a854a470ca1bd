/**
 * How the control plane is called: by which roots it is judged, and how this agent proves itself: by its present certificate, and by
 * the token, which is read anew for every call and may be missing. Either is enough for the control plane.
 * Source: Istio pkg/istio-agent/agent.go, pilot/cmd/pilot-agent/options/security.go.
 */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { checkServerIdentity } from "node:tls";
import { type ChannelCredentials, type ChannelOptions, credentials, Metadata } from "@grpc/grpc-js";
import { parseHostPort } from "../../lib/host-port.ts";
import type { AgentEnvironment } from "../environment.ts";
import type { AgentPaths } from "../paths.ts";
import { filesIn, type KeyPair, pairFiles, readValidPair } from "./key-pair.ts";
import type { MountedFiles } from "./mounted-files.ts";
import type { WorkloadSecrets } from "./workload-secrets.ts";

export interface Access {
  /** gRPC target. */
  readonly target: string;
  readonly credentials: ChannelCredentials;
  readonly metadata: Metadata;
  readonly options: ChannelOptions;
}

/** Why the control plane can't be called. */
export class AccessError extends Error {
  override readonly name = "AccessError";
}

const nameOfAnAddress = "istiod.istio-system.svc";
const systemRoots = "/etc/ssl/certs/ca-certificates.crt";

export interface AccessOptions {
  readonly address: string;
  readonly environment: AgentEnvironment;
  readonly paths: AgentPaths;
  readonly plaintext: boolean;
  /** With FILE_MOUNTED_CERTS. */
  readonly mounted?: MountedFiles | undefined;
  /** The explicit root file for this use; `SYSTEM` for the machine's own. */
  readonly rootFile: string | undefined;
  /** Name that the server's certificate must bear; default is the address's. */
  readonly serverName?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** What the agent has in memory. */
  readonly present: () => WorkloadSecrets | undefined;
}

export async function controlPlaneAccess(options: AccessOptions): Promise<Access> {
  const metadata = new Metadata();
  metadata.set("clusterid", options.environment.metadata.CLUSTER_ID || "Kubernetes");
  for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value);
  const token = await readToken(options.paths.token);
  const target = `dns:${options.address}`;
  const { keepaliveIntervalMs, keepaliveTimeoutMs } = options.environment;
  const keepalive = { "grpc.keepalive_time_ms": keepaliveIntervalMs, "grpc.keepalive_timeout_ms": keepaliveTimeoutMs };
  if (options.plaintext) return { target, credentials: credentials.createInsecure(), metadata, options: keepalive };
  // A token never travels in the clear.
  if (token) metadata.set("authorization", `Bearer ${token}`);
  const present = options.present();
  const pair = await ownPair(options, present, token !== undefined);
  const { host } = parseHostPort(options.address, "discoveryAddress", "connect");
  const { serverName } = options;
  // TLS has no server name for an address; the certificate has to be for the address all the same.
  const byAddress = serverName === undefined && isIP(host) !== 0;
  const nameInTls = serverName ?? (byAddress ? nameOfAnAddress : undefined);
  return {
    target,
    credentials: credentials.createSsl(
      Buffer.from(`${await readRoots(options)}\n${present?.roots ?? ""}`),
      pair ? Buffer.from(pair.privateKey) : null,
      pair ? Buffer.from(pair.chain) : null,
      byAddress ? { checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate) } : {},
    ),
    metadata,
    options: { ...keepalive, ...(nameInTls === undefined ? {} : { "grpc.ssl_target_name_override": nameInTls }) },
  };
}

/** What has run out proves nothing, and then the token decides. */
async function ownPair(
  { mounted, environment: { provisionedCerts } }: AccessOptions,
  present: WorkloadSecrets | undefined,
  hasToken: boolean,
): Promise<KeyPair | undefined> {
  const named = mounted?.client && (await readValidPair(mounted.client));
  if (named) return named;
  const own = present?.pair;
  if (own && own.notAfter.getTime() > Date.now()) return own;
  const provisioned = provisionedCerts === undefined ? undefined : await readValidPair(filesIn(provisionedCerts));
  // Without anything else to show, one that is over by this machine's clock is worth showing: the clock may be wrong.
  return provisioned ?? (hasToken ? undefined : own);
}

async function readToken(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim() || undefined;
  } catch {
    return undefined;
  }
}

async function readRoots({ rootFile, environment, mounted, paths }: AccessOptions): Promise<string> {
  if (rootFile === "SYSTEM") return readFile(systemRoots, "utf8");
  const { provisionedCerts } = environment;
  const candidates = rootFile
    ? [rootFile]
    : [
        paths.provisionedRoot,
        ...(provisionedCerts ? [join(provisionedCerts, pairFiles.root)] : []),
        ...(mounted?.clientRoot ? [mounted.clientRoot] : []),
        paths.root,
      ];
  for (const candidate of candidates) {
    try {
      return await readFile(candidate, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        throw new AccessError(`the root certificate ${candidate} can't be read`, { cause: error });
    }
  }
  throw new AccessError(`there is no root certificate to know the control plane by: looked for ${candidates.join(", ")}`);
}
