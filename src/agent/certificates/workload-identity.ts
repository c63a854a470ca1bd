/**
 * Where the workload's certificate comes from. The first that is there counts:
 *
 *   another's socket    workload-spiffe-uds/socket answers: the proxy asks there itself (SPIRE)
 *   none                controlPlaneAuthPolicy NONE: nobody needs one
 *   files               workload-spiffe-credentials/, or those of FILE_MOUNTED_CERTS; whoever keeps them renews them
 *   an authority        the control plane's, or the one at CA_ADDR
 *
 * Source: Istio pkg/istio-agent/agent.go (Run, initSdsServer).
 */
import { connect } from "node:net";
import { join } from "node:path";
import { formatSpiffeId } from "../../api/spiffe.ts";
import { log } from "../../lib/log.ts";
import { type AgentEnvironment, defaultSocketFile } from "../environment.ts";
import { EnvironmentError } from "../environment-values.ts";
import type { AgentPaths } from "../paths.ts";
import type { Troubles } from "../troubles.ts";
import type { Access } from "./control-plane-access.ts";
import { FileCertificates } from "./file-certificates.ts";
import { filesIn } from "./key-pair.ts";
import type { MountedFiles } from "./mounted-files.ts";
import { SdsCertificates } from "./sds-certificates.ts";
import { WorkloadCertificates } from "./workload-certificates.ts";
import type { WorkloadSecrets, WorkloadSecretsSource } from "./workload-secrets.ts";

const scope = log.scope("cache");

/** Of the tools that bring certificates to Google's machines. */
const gkeNames = { chain: "certificates.pem", privateKey: "private_key.pem", root: "ca_certificates.pem" };

export interface WorkloadIdentityOptions {
  readonly environment: AgentEnvironment;
  readonly paths: AgentPaths;
  readonly nodeId: string;
  readonly troubles: Pick<Troubles, "report" | "clear">;
  /** Nobody needs a certificate. */
  readonly plaintext: boolean;
  /** With FILE_MOUNTED_CERTS. */
  readonly mounted: MountedFiles | undefined;
  /** Whoever answers on the socket is somebody else, and has the certificate. */
  readonly mayBeServed: boolean;
  /** How the authority is called. */
  readonly access: (present: () => WorkloadSecrets | undefined) => Promise<Access>;
}

export interface WorkloadIdentity {
  readonly secrets: WorkloadSecretsSource | undefined;
  /** Socket on which the proxy has its certificate. */
  readonly socket: string;
  /** The socket is another's. */
  readonly isServedElsewhere: boolean;
}

export async function openWorkloadIdentity({
  environment,
  paths,
  nodeId,
  plaintext,
  troubles,
  mounted,
  mayBeServed,
  access,
}: WorkloadIdentityOptions): Promise<WorkloadIdentity> {
  const { workloadSocketFile } = environment;
  const socket = join(paths.workloadSockets, workloadSocketFile);
  if (mayBeServed && (await isServed(socket))) {
    scope.info("the workload's certificate comes from another's socket", { path: socket });
    return { secrets: plaintext ? undefined : new SdsCertificates(socket, nodeId), socket, isServedElsewhere: true };
  }
  if (workloadSocketFile !== defaultSocketFile)
    throw new EnvironmentError(`WORKLOAD_IDENTITY_SOCKET_FILE: nobody serves secrets on the socket ${socket}`);
  if (plaintext) return { secrets: undefined, socket, isServedElsewhere: false };
  const brought = [filesIn(paths.workloadFiles), filesIn(paths.workloadFiles, gkeNames)].find(FileCertificates.areThere);
  const files = brought ?? mounted?.workload;
  if (files !== undefined) {
    scope.info("the workload's certificate comes from files", { certificate: files.chain });
    return { secrets: await FileCertificates.start(files, environment.fileDebounceMs), socket, isServedElsewhere: false };
  }
  const secrets = WorkloadCertificates.start({
    identity: formatSpiffeId({
      trustDomain: environment.trustDomain,
      namespace: environment.podNamespace,
      serviceAccount: environment.serviceAccount,
    }),
    keyKind: environment.keyKind,
    ttlSeconds: environment.secretTtlSeconds,
    graceRatio: environment.secretGraceRatio,
    graceJitter: environment.secretGraceJitter,
    outputDir: environment.outputCerts,
    authority: environment.caAddress === undefined ? "controlPlane" : "another",
    certSigner: environment.metadata.CERT_SIGNER ?? "",
    access,
    troubles,
  });
  return { secrets, socket, isServedElsewhere: false };
}

/** Whether somebody else answers on the socket; a file left behind does not. */
export function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
