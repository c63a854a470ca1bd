/**
 * The rules that a decoded object must keep, Istio's own: errors, for which it is refused, and warnings, with which it is
 * taken. The rules of each kind stand in validation/, one file a kind; those that hold for every object stand here.
 */
import type { ConfigError } from "./config-error.ts";
import { locatorOf } from "./documents/decode-documents.ts";
import { toConfigErrors } from "./documents/decode-object.ts";
import { kindByName } from "./kinds/index.ts";
import { type ConfigObject, type IstioKindName, keyOf } from "./kinds/object.ts";
import { FieldReport } from "./schema/field-report.ts";
import { rules } from "./validation/index.ts";
import { checkAnnotations, checkLabels } from "./validation/labels.ts";
import { checkNamespaceName, checkObjectName } from "./validation/names.ts";

export interface ValidationResult {
  readonly errors: readonly ConfigError[];
  readonly warnings: readonly ConfigError[];
}

export function validate(object: ConfigObject): ValidationResult {
  const kind = kindByName(object.kind);
  const report = new FieldReport();
  const metadata = report.at("metadata");
  if (object.metadata.name !== "" || object.metadata.generateName === undefined) checkObjectName(object.metadata.name, metadata.at("name"));
  if (kind?.namespaced) checkNamespaceName(object.metadata.namespace, metadata.at("namespace"));
  checkLabels(object.metadata.labels, metadata.at("labels"));
  checkAnnotations(object.metadata.annotations, metadata.at("annotations"));
  if (Object.hasOwn(rules, object.kind)) {
    const check = rules[object.kind as IstioKindName] as (object: ConfigObject, report: FieldReport) => void;
    check(object, report.at("spec"));
  }

  const locator = locatorOf(object);
  const ofSeverity = (severity: "error" | "warning") =>
    toConfigErrors(
      report.problems.filter((problem) => problem.severity === severity),
      keyOf(object),
      locator,
    );
  return { errors: ofSeverity("error"), warnings: ofSeverity("warning") };
}
