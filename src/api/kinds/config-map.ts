import { bytes, type Infer, map, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { objectAt, type RawObject, withoutNulls } from "./raw-fields.ts";

const configMapSchema = record("ConfigMap", { data: map(string()), binaryData: map(bytes()) });
export type ConfigMap = Infer<typeof configMapSchema>;

export const configMap = defineKubernetesKind({
  kind: "ConfigMap",
  group: "",
  plural: "configmaps",
  shortNames: ["cm"],
  columns: [{ name: "Data", type: "string", cell: entries, description: "How many entries it has" }, ageColumn],
  schema: configMapSchema,
  specAt: "root",
  normalize: (raw) => withoutNulls(raw, "data", "binaryData"),
});

function entries(raw: RawObject): string {
  return String(Object.keys(objectAt(raw, "data")).length + Object.keys(objectAt(raw, "binaryData")).length);
}
