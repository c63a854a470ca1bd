import type { DestinationRule } from "../kinds/destination-rule.ts";
import type { ConfigObject } from "../kinds/object.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkLabels } from "./labels.ts";
import { isDnsLabel, reportProblem, wildcardDomainProblem } from "./names.ts";
import { checkExportTo, checkSelector } from "./selection.ts";
import { checkTrafficPolicy } from "./traffic-policy.ts";

export function validateDestinationRule({ spec, metadata }: ConfigObject<DestinationRule>, report: FieldReport): void {
  reportProblem(report.at("host"), wildcardDomainProblem(spec.host));
  checkTrafficPolicy(spec.trafficPolicy, metadata.namespace, report.at("trafficPolicy"));
  const names = new Set<string>();
  for (const [index, subset] of spec.subsets.entries()) {
    const place = report.at("subsets", index);
    checkSubsetName(subset.name, place.at("name"));
    if (names.has(subset.name)) place.at("name").error(`${JSON.stringify(subset.name)} names an earlier subset too`);
    names.add(subset.name);
    checkLabels(subset.labels, place.at("labels"));
    checkTrafficPolicy(subset.trafficPolicy, metadata.namespace, place.at("trafficPolicy"));
  }
  const rules = { namespace: metadata.namespace, isOwnNamespaceOnly: spec.workloadSelector !== undefined };
  checkExportTo(spec.exportTo, rules, report.at("exportTo"));
  checkSelector(spec.workloadSelector, report.at("workloadSelector"));
}

export function checkSubsetName(name: string, report: FieldReport): void {
  if (name === "") report.error("is missing");
  else if (!isDnsLabel(name)) report.error(`${JSON.stringify(name)} is not a subset's name: letters, digits and "-"`);
}
