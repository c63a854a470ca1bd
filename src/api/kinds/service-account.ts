import { type Infer, list, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

const serviceAccountSchema = record("ServiceAccount", {
  secrets: list(record("ObjectReference", { name: string() })),
  imagePullSecrets: list(record("LocalObjectReference", { name: string() })),
});
export type ServiceAccount = Infer<typeof serviceAccountSchema>;

export const serviceAccount = defineKubernetesKind({
  kind: "ServiceAccount",
  group: "",
  plural: "serviceaccounts",
  shortNames: ["sa"],
  schema: serviceAccountSchema,
  specAt: "root",
});
