import { type Infer, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { type RawObject, textAt } from "./raw-fields.ts";

/** Whose business the Ingresses are that name it. */
const ingressClassSchema = record("IngressClass", { controller: string() });
export type IngressClass = Infer<typeof ingressClassSchema>;

export const ingressClass = defineKubernetesKind({
  kind: "IngressClass",
  group: "networking.k8s.io",
  plural: "ingressclasses",
  namespaced: false,
  columns: [
    { name: "Controller", type: "string", jsonPath: ".spec.controller", description: "Who serves Ingresses of this class" },
    { name: "Parameters", type: "string", cell: parameters, description: "More about the class" },
    ageColumn,
  ],
  schema: ingressClassSchema,
  specAt: "spec",
});

function parameters(raw: RawObject): string {
  const [group, kind, name] = ["apiGroup", "kind", "name"].map((field) => textAt(raw, "spec", "parameters", field));
  return kind ? `${kind}${group ? `.${group}` : ""}/${name}` : "<none>";
}
