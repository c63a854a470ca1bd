import { type Infer, record } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

/** What matters about a namespace are its labels. */
const namespaceSchema = record("Namespace", {});
export type Namespace = Infer<typeof namespaceSchema>;

export const namespace = defineKubernetesKind({
  kind: "Namespace",
  group: "",
  plural: "namespaces",
  shortNames: ["ns"],
  namespaced: false,
  schema: namespaceSchema,
  specAt: "root",
});
