/** The condition `Healthy` of a WorkloadEntry, as its agent reports it. */
import type { ConfigObject } from "../../api/kinds/object.ts";
import { isPlainObject } from "../../api/schema/decode.ts";
import { healthyCondition } from "./entry-annotations.ts";

/** undefined: the workload is well. Otherwise what is wrong with it, for people. */
export type HealthReport = string | undefined;

/** Of another's condition nothing is changed. */
export function statusWithHealth(entry: ConfigObject, report: HealthReport, at: Date): Record<string, unknown> {
  const time = at.toISOString();
  const condition = {
    type: healthyCondition,
    status: report === undefined ? "True" : "False",
    ...(report === undefined ? {} : { message: report }),
    lastProbeTime: time,
    lastTransitionTime: time,
  };
  return { ...entry.status, conditions: [...otherConditions(entry), condition] };
}

/** When it can't be known any more. */
export function statusWithoutHealth(entry: ConfigObject): Record<string, unknown> {
  return { ...entry.status, conditions: otherConditions(entry) };
}

export function hasHealth(entry: ConfigObject): boolean {
  return conditions(entry).length > otherConditions(entry).length;
}

function otherConditions(entry: ConfigObject): unknown[] {
  return conditions(entry).filter((condition) => !isPlainObject(condition) || condition.type !== healthyCondition);
}

function conditions({ status }: ConfigObject): unknown[] {
  return Array.isArray(status?.conditions) ? status.conditions : [];
}
