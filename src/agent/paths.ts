/** Where the agent's files are: Istio's places, below a root that is `.` on a machine and something else where several agents share one. */
import { join } from "node:path";

export interface AgentPaths {
  /** JWT of the service account, written by others, read for every call. */
  readonly token: string;
  /** Socket of the secret discovery service. */
  readonly sds: string;
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
  return {
    token: join(run, "tokens/istio-token"),
    sds: join(run, "workload-spiffe-uds/socket"),
    provisionedRoot: join(root, "etc/certs/root-cert.pem"),
    root: join(run, "istio/root-cert.pem"),
    crl: join(run, "istio/crl/ca-crl.pem"),
    resolvConf: join(root, "var/lib/istio/resolv.conf"),
  };
}
