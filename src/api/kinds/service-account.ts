import { type Infer, list, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { objectsAt } from "./raw-fields.ts";

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
  subresources: ["token"],
  columns: [
    { name: "Secrets", type: "string", cell: (raw) => String(objectsAt(raw, "secrets").length), description: "How many Secrets it names" },
    ageColumn,
  ],
  schema: serviceAccountSchema,
  specAt: "root",
});
