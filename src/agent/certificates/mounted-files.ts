/**
 * Certificates that somebody puts on this machine and renews (FILE_MOUNTED_CERTS), and where they are:
 *
 *   etc/certs/{cert-chain,key,root-cert}.pem                  the workload's
 *   ISTIO_META_TLS_CLIENT_{CERT_CHAIN,KEY,ROOT_CERT}          this agent's towards the control plane, and the root by which that is known; the
 *                                                             workload's too where etc/certs has none
 *
 * Source: Istio pkg/istio-agent/agent.go (GetKeyCertsForXDS, FindRootCAForXDS), security/pkg/nodeagent/cache/secretcache.go.
 */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { EnvironmentError } from "../environment-values.ts";
import { type CertificateFiles, filesIn, type PairFiles } from "./key-pair.ts";

export interface MountedFiles {
  readonly workload: CertificateFiles;
  /** Undefined: by the workload's. */
  readonly client: PairFiles | undefined;
  readonly clientRoot: string | undefined;
}

const prefix = "ISTIO_META_TLS_CLIENT_";

/** `metadata`: the node's. Throws EnvironmentError for a pair of which half is named, and for directories that are not there. */
export function mountedFiles(metadata: Readonly<Record<string, unknown>>, directory: string): MountedFiles {
  const named = (key: string) => {
    const value = metadata[`TLS_CLIENT_${key}`];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const [chain, privateKey, root] = [named("CERT_CHAIN"), named("KEY"), named("ROOT_CERT")];
  if ((chain === undefined) !== (privateKey === undefined))
    throw new EnvironmentError(`${prefix}${chain === undefined ? "CERT_CHAIN" : "KEY"}: is missing, of a certificate and its key`);
  const client = chain && privateKey ? { chain, privateKey } : undefined;
  const own = filesIn(directory);
  const workload = client && root && !Object.values(own).every((file) => existsSync(file)) ? { ...client, root } : own;
  for (const file of [...Object.values(client ?? {}), root, ...Object.values(workload)]) {
    if (file && !existsSync(dirname(file))) throw new EnvironmentError(`FILE_MOUNTED_CERTS: there is no directory ${dirname(file)}`);
  }
  return { workload, client, clientRoot: root };
}
