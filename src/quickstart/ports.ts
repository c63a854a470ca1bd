/** Addresses of a quickstart: Istio's own where they are free for the taking, or a row of ports from a number on. All on loopback. */
export interface QuickstartPorts {
  readonly http: number;
  /** Listener of the gateway by which the sample services call each other. */
  readonly mesh: number;
  readonly xds: number;
  readonly monitoring: number;
  readonly admin: number;
  readonly status: number;
  readonly ready: number;
  readonly stats: number;
  /** Of every sample service, each on an address of its own. */
  readonly samples: number;
  /** xDS and certificate authority over TLS. */
  readonly secureXds: number;
  /** For kubectl. */
  readonly kubeApi: number;
}

const istioPorts: QuickstartPorts = {
  http: 8080,
  mesh: 15080,
  xds: 15010,
  monitoring: 15014,
  admin: 15000,
  status: 15020,
  ready: 15021,
  stats: 15090,
  samples: 9080,
  secureXds: 15012,
  kubeApi: 16443,
};

export function quickstartPorts(from: number | undefined): QuickstartPorts {
  if (from === undefined) return istioPorts;
  const names = Object.keys(istioPorts) as (keyof QuickstartPorts)[];
  return Object.fromEntries(names.map((name, index) => [name, from + index])) as unknown as QuickstartPorts;
}
