import type { FieldReport } from "../schema/field-report.ts";

const labelName = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const keyPrefix = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** Annotations of one object together, as Kubernetes bounds them. */
const maxAnnotationBytes = 256 * 1024;

/** `app`, `topology.kubernetes.io/zone`: Kubernetes' qualified names. */
function isQualifiedName(key: string): boolean {
  const slash = key.indexOf("/");
  if (slash < 0) return labelName.test(key);
  const prefix = key.slice(0, slash);
  return prefix.length <= 253 && keyPrefix.test(prefix) && labelName.test(key.slice(slash + 1));
}

export function checkLabels(labels: Readonly<Record<string, string>>, report: FieldReport): void {
  for (const [key, value] of Object.entries(labels)) {
    if (!isQualifiedName(key)) report.at(key).error(`${JSON.stringify(key)} is not a label's key`);
    if (value !== "" && !labelName.test(value)) {
      report.at(key).error(`${JSON.stringify(value)} is not a label's value: at most 63 letters, digits, "-", "_" and "."`);
    }
  }
}

export function checkAnnotations(annotations: Readonly<Record<string, string>>, report: FieldReport): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations)) {
    bytes += key.length + value.length;
    if (!isQualifiedName(key)) report.at(key).error(`${JSON.stringify(key)} is not an annotation's key`);
  }
  if (bytes > maxAnnotationBytes) report.error(`are larger than ${maxAnnotationBytes / 1024} KiB together`);
}

/** Labels that select workloads: no patterns in them. */
export function checkSelectorLabels(labels: Readonly<Record<string, string>>, report: FieldReport): void {
  for (const [key, value] of Object.entries(labels)) {
    if (key === "") report.error("an empty key selects nothing");
    if (key.includes("*") || value.includes("*")) report.at(key).error("wildcards are not supported in a selector");
  }
}
