/** Inbound ports that are never captured on a machine: whoever loses ssh, metrics or readiness to a setting has lost the machine. */
const always = ["22", "15020", "15021", "15090"];

/** As the variable ISTIO_LOCAL_EXCLUDE_PORTS wants it. sidecar.env documents ISTIO_INBOUND_EXCLUDE_PORTS, which Istio no longer reads. */
export function captureExclusions(given: Readonly<Record<string, string | undefined>>): string {
  const asked = [given.ISTIO_LOCAL_EXCLUDE_PORTS, given.ISTIO_INBOUND_EXCLUDE_PORTS].flatMap((list) => (list ?? "").split(","));
  return [...new Set([...asked.map((port) => port.trim()).filter((port) => port !== ""), ...always])].join(",");
}
