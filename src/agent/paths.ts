/** Where the agent's files are: Istio's places, below a root that is `.` on a machine and something else where several agents share one. */
import { join } from "node:path";

export interface AgentPaths {
  /** JWT of the service account, written by others, read for every call. */
  readonly token: string;
  /** Directory of the socket on which the workload's certificate is had: ours, or that of another who was there first (SPIRE). */
  readonly workloadSockets: string;
  /** Socket on which we serve files as secrets where the workload's certificate comes from another. */
  readonly filesSds: string;
  /** Socket of another who serves what `sds://` names stand for; need not exist. */
  readonly credentialSds: string;
  /** Directories of a certificate that others keep there: for the workload, and with FILE_MOUNTED_CERTS. */
  readonly workloadFiles: string;
  readonly mountedFiles: string;
  /** Roots by which the control plane is known, the first that exists counts. */
  readonly provisionedRoot: string;
  readonly root: string;
  /** Certificates that are no longer good; need not exist. */
  readonly crl: string;
  /** Nameservers, where /etc/resolv.conf names the agent itself; need not exist. */
  readonly resolvConf: string;
}

export function agentPaths(root: string): AgentPaths {
  const run = join(root, "var/run/secrets");
  const mountedFiles = join(root, "etc/certs");
  return {
    token: join(run, "tokens/istio-token"),
    workloadSockets: join(run, "workload-spiffe-uds"),
    filesSds: join(run, "credential-uds/files-socket"),
    credentialSds: join(run, "credential-uds/socket"),
    workloadFiles: join(run, "workload-spiffe-credentials"),
    mountedFiles,
    provisionedRoot: join(mountedFiles, "root-cert.pem"),
    root: join(run, "istio/root-cert.pem"),
    crl: join(run, "istio/crl/ca-crl.pem"),
    resolvConf: join(root, "var/lib/istio/resolv.conf"),
  };
}
