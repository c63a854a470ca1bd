import type { ConfigObject } from "../kinds/object.ts";
import type { WorkloadEntry } from "../kinds/workload-entry.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkLabels } from "./labels.ts";
import { fqdnProblem, isDnsLabel } from "./names.ts";
import { checkPort, checkUnixPath, isIpAddress, unixPrefix } from "./scalars.ts";

export function validateWorkloadEntry({ spec }: ConfigObject<WorkloadEntry>, report: FieldReport): void {
  checkWorkload(spec, { allowsNames: true }, report);
}

export interface WorkloadRules {
  /** Whether the address may be a host name; a STATIC ServiceEntry asks for addresses. */
  readonly allowsNames: boolean;
  /** Names of the ServiceEntry's ports, of which alone ports may be given. */
  readonly servicePorts?: ReadonlySet<string>;
}

export function checkWorkload(workload: WorkloadEntry, rules: WorkloadRules, report: FieldReport): void {
  const { address, ports } = workload;
  const place = report.at("address");
  if (address === "") {
    if (workload.network === "") place.error("is missing");
    else place.warn(`is missing: the workload is reached through the gateways of network ${JSON.stringify(workload.network)} alone`);
  } else if (address.startsWith(unixPrefix)) {
    checkUnixPath(address.slice(unixPrefix.length), place);
    if (Object.keys(ports).length > 0) report.at("ports").error("can't be given with a Unix socket");
    if (rules.servicePorts && rules.servicePorts.size !== 1) place.error("a Unix socket can serve one port alone");
  } else if (!isIpAddress(address)) {
    if (!rules.allowsNames) place.error(`${JSON.stringify(address)} is not an IP address`);
    else if (fqdnProblem(address)) place.error(`${JSON.stringify(address)} is neither an IP address nor a domain name`);
  }
  for (const [name, port] of Object.entries(ports)) {
    const portPlace = report.at("ports", name);
    if (!isDnsLabel(name)) portPlace.error(`${JSON.stringify(name)} is not a port's name`);
    if (rules.servicePorts && !rules.servicePorts.has(name)) portPlace.error(`the service has no port named ${JSON.stringify(name)}`);
    checkPort(port, portPlace);
  }
  checkLabels(workload.labels, report.at("labels"));
}
