import { type Infer, record } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { objectAt, type RawObject, textAt } from "./raw-fields.ts";

/** What matters about a namespace are its labels. */
const namespaceSchema = record("Namespace", {});
export type Namespace = Infer<typeof namespaceSchema>;

export const namespace = defineKubernetesKind({
  kind: "Namespace",
  group: "",
  plural: "namespaces",
  shortNames: ["ns"],
  namespaced: false,
  subresources: ["status"],
  columns: [
    { name: "Status", type: "string", cell: phase, description: "Active, or Terminating while its objects are deleted" },
    ageColumn,
  ],
  defaults: withPhase,
  selectableFields: { "status.phase": phase },
  schema: namespaceSchema,
  specAt: "root",
});

function phase(raw: RawObject): string {
  return textAt(raw, "status", "phase") || "Active";
}

/** Selectors find a namespace by the label with its name. */
function withPhase(raw: RawObject): Record<string, unknown> {
  const metadata = objectAt(raw, "metadata");
  const labels = { ...objectAt(metadata, "labels"), "kubernetes.io/metadata.name": textAt(metadata, "name") };
  const status = { phase: "Active", ...objectAt(raw, "status") };
  return { ...raw, metadata: { ...metadata, labels }, spec: { finalizers: ["kubernetes"], ...objectAt(raw, "spec") }, status };
}

/** Whether it is being deleted. */
export function isTerminating(raw: RawObject): boolean {
  return phase(raw) === "Terminating";
}
