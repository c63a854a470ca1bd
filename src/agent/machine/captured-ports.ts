/**
 * Which inbound ports of a machine are captured. Whoever loses ssh, metrics or readiness to a setting has lost the machine, so those never
 * are: neither where all ports are captured, nor where a WorkloadGroup lists them among the workload's own.
 */
const always = ["22", "15020", "15021", "15090"];

type Variables = Readonly<Record<string, string | undefined>>;

/** As the variable ISTIO_LOCAL_EXCLUDE_PORTS wants it. sidecar.env documents ISTIO_INBOUND_EXCLUDE_PORTS, which Istio no longer reads. */
export function captureExclusions(given: Variables, statusPort: string | undefined): string {
  const asked = [given.ISTIO_LOCAL_EXCLUDE_PORTS, given.ISTIO_INBOUND_EXCLUDE_PORTS].flatMap(portsOf);
  return [...new Set([...asked, ...neverCaptured(given, statusPort)])].join(",");
}

/** Of ISTIO_INBOUND_PORTS; undefined: as it is. */
export function captureInclusions(
  { ISTIO_INBOUND_PORTS: given, ...others }: Variables,
  statusPort: string | undefined,
): { readonly captured: string; readonly spared: readonly string[] } | undefined {
  const never = new Set(neverCaptured(others, statusPort));
  const ports = portsOf(given);
  const spared = ports.filter((port) => never.has(port));
  return spared.length === 0 ? undefined : { captured: ports.filter((port) => !never.has(port)).join(","), spared };
}

/** Where agent and proxy have other ports than usual, those too. What is no port, 0 for none among it, is theirs to judge. */
function neverCaptured({ ENVOY_STATUS_PORT, ENVOY_PROMETHEUS_PORT }: Variables, statusPort: string | undefined): string[] {
  const own = [statusPort, ENVOY_STATUS_PORT, ENVOY_PROMETHEUS_PORT].flatMap((port) => port ?? []);
  return [...always, ...own.filter((port) => /^[1-9]\d{0,4}$/.test(port) && Number(port) < 65536)];
}

function portsOf(list: string | undefined): string[] {
  return (list ?? "")
    .split(",")
    .map((port) => port.trim())
    .filter((port) => port !== "");
}
