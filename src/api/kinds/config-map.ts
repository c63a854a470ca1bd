import { bytes, type Infer, map, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

const configMapSchema = record("ConfigMap", { data: map(string()), binaryData: map(bytes()) });
export type ConfigMap = Infer<typeof configMapSchema>;

export const configMap = defineKubernetesKind({
  kind: "ConfigMap",
  group: "",
  plural: "configmaps",
  shortNames: ["cm"],
  schema: configMapSchema,
  specAt: "root",
});
