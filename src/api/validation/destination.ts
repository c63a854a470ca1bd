import type { Destination } from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkSubsetName } from "./destination-rule.ts";
import { fqdnProblem, isDnsLabel, reportProblem, wildcardDomainProblem } from "./names.ts";
import { checkPort } from "./scalars.ts";

export function checkDestination(destination: Destination, report: FieldReport): void {
  if (destination.host === "*") report.at("host").error('"*" is no destination');
  else reportProblem(report.at("host"), wildcardDomainProblem(destination.host));
  if (destination.subset !== "") checkSubsetName(destination.subset, report.at("subset"));
  if (destination.port) checkPort(destination.port.number, report.at("port", "number"));
}

/** Weights are shares of their sum; a lone destination needs none. */
export function checkTotalWeight(destinations: readonly { readonly weight: number }[], report: FieldReport): void {
  for (const [index, { weight }] of destinations.entries()) {
    if (weight < 0) report.at(index, "weight").error(`${weight} is negative`);
  }
  const total = destinations.reduce((sum, { weight }) => sum + weight, 0);
  if (destinations.length > 1 && total === 0) report.error("the weights add up to 0");
}

/** `mesh`, `name` in the same namespace, or `namespace/name`. */
export function checkGatewayNames(names: readonly string[], report: FieldReport): void {
  for (const [index, name] of names.entries()) {
    const place = report.at(index);
    const slash = name.indexOf("/");
    if (slash < 0) {
      const [own, namespace] = name.split(".");
      if (namespace !== undefined)
        place.warn(`${JSON.stringify(name)} is the old form of a gateway's name: write ${JSON.stringify(`${namespace}/${own}`)}`);
      reportProblem(place, fqdnProblem(name));
      continue;
    }
    const [namespace, own] = [name.slice(0, slash), name.slice(slash + 1)];
    if (!isDnsLabel(namespace) || !isDnsLabel(own)) place.error(`${JSON.stringify(name)} is not of the form namespace/name`);
  }
}
