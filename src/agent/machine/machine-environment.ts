/**
 * What the agent of a machine is told: the variables of sidecar.env, over them those of cluster.env, and Istio's defaults for the rest.
 * Source: Istio tools/packaging/common/istio-start.sh.
 */
import { isIP } from "node:net";
import { parse } from "yaml";
import { isPlainObject } from "../../api/schema/decode.ts";
import { captureExclusions, captureInclusions } from "./captured-ports.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** What the machine says of itself. */
export interface Machine {
  readonly hostName: string;
  /** Its own, without loopback and link-local ones; the first is the one that others call. */
  readonly addresses: readonly string[];
}

/** What holds where the machine's files say nothing else. */
export interface MachineDefaults {
  readonly variables: Variables;
  /** Fields of ProxyConfig. */
  readonly proxyConfig: ProxyConfigFields;
}

type ProxyConfigFields = Readonly<Record<string, string | number>>;

export class MachineError extends Error {
  override readonly name = "MachineError";
}

/** Read by Istio's script, and by nobody here; what there is instead. */
const withoutEffect: Readonly<Record<string, string>> = {
  ISTIO_LOG_DIR: "logs are in the journal: journalctl -u istio",
  ISTIO_BIN_BASE: "the unit names the program: systemctl edit istio",
  ISTIO_CFG: "the unit names the directory: systemctl edit istio",
  EXEC_USER: "the unit names the user: systemctl edit istio",
  ISTIO_DEBUG: "ISTIO_AGENT_FLAGS takes --proxyLogLevel",
};

export interface MachineEnvironment {
  readonly variables: Readonly<Record<string, string>>;
  /** Arguments of `pilot-agent proxy sidecar`. */
  readonly agentFlags: readonly string[];
  /** Of settings that do nothing. */
  readonly warnings: readonly string[];
}

/** `given`: of the files, and of defaults. Throws MachineError when the machine has no address yet. */
export function machineEnvironment(
  given: Variables,
  { hostName, addresses }: Machine,
  defaults: ProxyConfigFields = {},
): MachineEnvironment {
  const namespace = given.ISTIO_NAMESPACE || given.POD_NAMESPACE || "default";
  const system = given.ISTIO_SYSTEM_NAMESPACE || "istio-system";
  const address = given.ISTIO_SVC_IP;
  if (address && isIP(address) === 0) throw new MachineError(`ISTIO_SVC_IP: "${address}" is no IP address`);
  if (!address && addresses.length === 0)
    throw new MachineError("this machine has no address but loopback yet, and ISTIO_SVC_IP names none");
  const controlPlane = given.PILOT_ADDRESS || `istiod.${system}.svc:${given.ISTIO_PILOT_PORT || "15012"}`;
  const warnings = Object.entries(withoutEffect)
    .filter(([name]) => given[name])
    .map(([name, instead]) => `${name} has no effect: ${instead}`);
  const ownConfig = proxyConfig(given, controlPlane, defaults);
  const statusPort = statusPortOf(ownConfig);
  const inclusions = captureInclusions(given, statusPort);
  if (inclusions) warnings.push(`ISTIO_INBOUND_PORTS: ${inclusions.spared.join(", ")} is not captured, whatever is listed`);
  const variables: Record<string, string | undefined> = {
    ...given,
    // What nobody fixes follows the machine: the agent looks by itself.
    INSTANCE_IP: address || undefined,
    POD_NAME: given.POD_NAME || hostName.split(".")[0],
    POD_NAMESPACE: namespace,
    ISTIO_SYSTEM_NAMESPACE: system,
    CA_ADDR: given.CA_ADDR || controlPlane,
    // Set and empty means none.
    PROV_CERT: given.PROV_CERT ?? "./etc/certs",
    OUTPUT_CERTS: given.OUTPUT_CERTS ?? "./etc/certs",
    PROXY_CONFIG: ownConfig,
    ISTIO_LOCAL_EXCLUDE_PORTS: captureExclusions(given, statusPort),
    ...(inclusions ? { ISTIO_INBOUND_PORTS: inclusions.captured } : {}),
  };
  return {
    variables: Object.fromEntries(Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined)),
    agentFlags: (given.ISTIO_AGENT_FLAGS ?? "").split(" ").filter((flag) => flag !== ""),
    warnings,
  };
}

/** The user's own, over defaults; where the control plane is said by variables, that too. Istio then forgets the name of the service. */
function proxyConfig(given: Variables, controlPlane: string, defaults: ProxyConfigFields): string {
  const discovery = given.PILOT_ADDRESS || given.ISTIO_PILOT_PORT ? { discoveryAddress: controlPlane } : {};
  const own = given.PROXY_CONFIG;
  if (own) return withFields(own, defaults, discovery);
  const fields = {
    serviceCluster: given.ISTIO_SERVICE || "rawvm",
    controlPlaneAuthPolicy: given.ISTIO_CP_AUTH || "MUTUAL_TLS",
    ...defaults,
    ...discovery,
  };
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

function statusPortOf(proxyConfigText: string): string | undefined {
  const port = fieldsOf(proxyConfigText)?.statusPort;
  return typeof port === "number" || typeof port === "string" ? String(port) : undefined;
}

/** Undefined for what is no object of YAML. */
function fieldsOf(text: string): Record<string, unknown> | undefined {
  try {
    const fields: unknown = parse(text, { maxAliasCount: 100 });
    return isPlainObject(fields) ? fields : undefined;
  } catch {
    return undefined;
  }
}

/** Text that is no object of YAML is left to the agent, which says what is wrong with it. */
function withFields(own: string, beneath: ProxyConfigFields, above: ProxyConfigFields): string {
  if (Object.keys(beneath).length + Object.keys(above).length === 0) return own;
  const fields = fieldsOf(own);
  return fields ? JSON.stringify({ ...beneath, ...fields, ...above }) : own;
}
