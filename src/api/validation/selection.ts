import type { PolicyTargetReference, WorkloadSelector } from "../kinds/selectors.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkSelectorLabels } from "./labels.ts";
import { isDnsLabel } from "./names.ts";

/** Group and kind of what a policy can be attached to. */
const targets = new Set([
  "/Service",
  "core/Service",
  "networking.istio.io/ServiceEntry",
  "gateway.networking.k8s.io/Gateway",
  "gateway.networking.k8s.io/GatewayClass",
]);

export interface Attachment {
  readonly selector?: WorkloadSelector | undefined;
  readonly targetRef?: PolicyTargetReference | undefined;
  readonly targetRefs: readonly PolicyTargetReference[];
}

/** A policy selects workloads by labels or is attached to targets, not both. */
export function checkAttachment(spec: Attachment, report: FieldReport): void {
  const ways = [spec.selector, spec.targetRef, spec.targetRefs[0]].filter((way) => way !== undefined);
  if (ways.length > 1) report.error("only one of selector, targetRef and targetRefs may be given");
  checkSelector(spec.selector, report.at("selector"));
  if (spec.targetRef) checkTarget(spec.targetRef, report.at("targetRef"));
  for (const [index, target] of spec.targetRefs.entries()) checkTarget(target, report.at("targetRefs", index));
}

export function checkTarget(target: PolicyTargetReference, report: FieldReport): void {
  if (target.name === "") report.at("name").error("is missing");
  if (target.namespace !== "") report.at("namespace").error("must not be given: a target is in the policy's own namespace");
  if (!targets.has(`${target.group}/${target.kind}`)) {
    report.error(
      `${JSON.stringify(`${target.group}/${target.kind}`)} can't be a target: only Service, ServiceEntry, Gateway and GatewayClass of the Gateway API`,
    );
  }
}

export function checkSelector(selector: WorkloadSelector | undefined, report: FieldReport): void {
  if (!selector) return;
  checkSelectorLabels(selector.matchLabels, report.at("matchLabels"));
  if (Object.keys(selector.matchLabels).length === 0) report.warn("has no labels, so that it selects all workloads of the namespace");
}

/** The older selector, `workloadSelector: { labels }`. */
export function checkLabelSelector(selector: { readonly labels: Readonly<Record<string, string>> } | undefined, report: FieldReport): void {
  if (!selector) return;
  checkSelectorLabels(selector.labels, report.at("labels"));
  if (Object.keys(selector.labels).length === 0) report.warn("has no labels, so that it selects all workloads of the namespace");
}

export interface ExportRules {
  readonly namespace: string;
  /** Only a ServiceEntry may be exported to nobody, `~`. */
  readonly allowsNone?: boolean;
  /** A DestinationRule that selects workloads is for its own namespace. */
  readonly isOwnNamespaceOnly?: boolean;
}

/** `.` is the object's own namespace, `*` all, `~` none. */
export function checkExportTo(exportTo: readonly string[], rules: ExportRules, report: FieldReport): void {
  const seen = new Set<string>();
  for (const [index, entry] of exportTo.entries()) {
    const place = report.at(index);
    const meant = entry === "." ? rules.namespace : entry;
    if (seen.has(meant)) place.error(`${JSON.stringify(entry)} is given twice${entry === "." ? ": it means the namespace itself" : ""}`);
    seen.add(meant);
    if (entry === "~") {
      if (!rules.allowsNone) place.error('"~" (nobody) is for ServiceEntries alone');
    } else if (meant !== "*" && !isDnsLabel(meant)) {
      place.error(`${JSON.stringify(entry)} is neither a namespace nor one of ".", "*"`);
    }
  }
  if (seen.has("*") && exportTo.length > 1) report.error('"*" means all namespaces and stands alone');
  if (seen.has("~") && exportTo.length > 1) report.error('"~" means nobody and stands alone');
  if (rules.isOwnNamespaceOnly && seen.size > 0 && (seen.size > 1 || !seen.has(rules.namespace))) {
    report.error("a rule that selects workloads can only be exported to its own namespace");
  }
}
