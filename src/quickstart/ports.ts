/**
 * Ports of a quickstart: Istio's own where they are free for the taking, or a row of ports from a number on. Control plane and gateway are
 * on 127.0.0.1; each workload has an address of its own in 127.0.0.0/8 and the same ports there.
 */
export interface QuickstartPorts {
  readonly http: number;
  /** Where a sidecar takes what its application calls. */
  readonly outbound: number;
  readonly xds: number;
  readonly monitoring: number;
  readonly admin: number;
  readonly status: number;
  readonly ready: number;
  readonly stats: number;
  /** Where a sidecar takes what is meant for its workload. */
  readonly inbound: number;
  /** Where the application itself listens, behind its sidecar. */
  readonly application: number;
  /** xDS and certificate authority over TLS. */
  readonly secureXds: number;
  /** For kubectl. */
  readonly kubeApi: number;
}

const istioPorts: QuickstartPorts = {
  http: 8080,
  outbound: 15080,
  xds: 15010,
  monitoring: 15014,
  admin: 15000,
  status: 15020,
  ready: 15021,
  stats: 15090,
  inbound: 9080,
  application: 9081,
  secureXds: 15012,
  kubeApi: 16443,
};

export function quickstartPorts(from: number | undefined): QuickstartPorts {
  if (from === undefined) return istioPorts;
  const names = Object.keys(istioPorts) as (keyof QuickstartPorts)[];
  return Object.fromEntries(names.map((name, index) => [name, from + index])) as unknown as QuickstartPorts;
}
