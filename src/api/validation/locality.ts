import type { LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting } from "../kinds/destination-rule.ts";
import type { FieldReport } from "../schema/field-report.ts";

/** Labels whose order Istio or Envoy gives by itself. */
const topologyLabels = new Set(["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"]);

export function checkLocalityLb(setting: LocalityLoadBalancerSetting | undefined, hasOutlierDetection: boolean, report: FieldReport): void {
  if (!setting) return;
  const { distribute, failover, failoverPriority } = setting;
  if (distribute.length > 0 && failover.length > 0) report.error("only one of distribute and failover may be given");
  if (failover.length > 0) {
    for (const [index, label] of failoverPriority.entries()) {
      if (topologyLabels.has(label)) report.at("failoverPriority", index).error(`${JSON.stringify(label)} can't be given beside failover`);
    }
  }
  for (const [index, { to }] of distribute.entries()) {
    const place = report.at("distribute", index, "to");
    const weights = Object.entries(to);
    for (const [locality, weight] of weights) {
      if (weight < 1 || weight > 100) place.at(locality).error(`weight ${weight} is out of range: must be between 1 and 100`);
    }
    const total = weights.reduce((sum, [, weight]) => sum + weight, 0);
    if (total !== 100) place.error(`the weights make ${total} and not 100`);
    checkLocalities(Object.keys(to).map((locality) => [locality, place.at(locality)]));
  }
  checkLocalities(distribute.map(({ from }, index) => [from, report.at("distribute", index, "from")]));
  checkFailover(failover, report);
  warnWithoutOutlierDetection(setting, hasOutlierDetection, report);
}

export function checkZoneAwareLb(
  setting: ZoneAwareLoadBalancerSetting | undefined,
  hasOutlierDetection: boolean,
  report: FieldReport,
): void {
  if (!setting) return;
  for (const [index, label] of setting.failoverPriority.entries()) {
    if (topologyLabels.has(label))
      report.at("failoverPriority", index).error(`${JSON.stringify(label)} can't be given: Envoy orders regions and zones by itself`);
  }
  checkFailover(setting.failover, report);
  warnWithoutOutlierDetection(setting, hasOutlierDetection, report);
}

function warnWithoutOutlierDetection(
  setting: { readonly failover: readonly unknown[]; readonly failoverPriority: readonly unknown[] },
  hasOutlierDetection: boolean,
  report: FieldReport,
): void {
  if (setting.failover.length + setting.failoverPriority.length > 0 && !hasOutlierDetection) {
    report.warn("failover never happens without outlierDetection");
  }
}

function checkFailover(failover: readonly { readonly from: string; readonly to: string }[], report: FieldReport): void {
  for (const [index, { from, to }] of failover.entries()) {
    const place = report.at("failover", index);
    if (from === to) place.error(`from and to are the same region ${JSON.stringify(from)}`);
    for (const [side, region] of [
      ["from", from],
      ["to", to],
    ] as const) {
      if (region.includes("/")) place.at(side).error(`${JSON.stringify(region)}: failover is between regions, without zones`);
      if (region.includes("*")) place.at(side).error(`${JSON.stringify(region)}: a region can't have a wildcard`);
    }
  }
}

/** Localities `region/zone/subzone`, the last part of which may be or end in a wildcard, must not overlap. */
function checkLocalities(localities: readonly (readonly [string, FieldReport])[]): void {
  const earlier: string[][] = [];
  for (const [locality, place] of localities) {
    const parts = locality.split("/");
    if (parts.some((part) => part === "")) place.error(`${JSON.stringify(locality)} has an empty part`);
    const star = locality.indexOf("*");
    if (star >= 0 && star !== locality.length - 1) place.error(`${JSON.stringify(locality)}: a wildcard stands at the end`);
    const fixed = parts.filter((part) => part !== "*");
    const overlaps = earlier.some((other) => isPrefix(other, fixed) || isPrefix(fixed, other));
    if (overlaps) place.error(`${JSON.stringify(locality)} overlaps with an earlier locality`);
    earlier.push(fixed);
  }
}

function isPrefix(a: readonly string[], b: readonly string[]): boolean {
  return a.length <= b.length && a.every((part, index) => part === b[index]);
}
