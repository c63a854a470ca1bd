import { type Infer, int32, list, optional, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { objectsAt, type RawObject, textAt } from "./raw-fields.ts";
import { loadBalancerStatusSchema } from "./service.ts";

/** The port is given by number or by name. */
const ingressBackendSchema = record("IngressBackend", {
  service: record("IngressServiceBackend", {
    name: string(),
    port: record("ServiceBackendPort", { number: int32(), name: string() }),
  }),
});
export type IngressBackend = Infer<typeof ingressBackendSchema>;

const ingressPathSchema = record("HTTPIngressPath", {
  path: string(),
  /** Exact, Prefix or ImplementationSpecific. */
  pathType: string(),
  backend: ingressBackendSchema,
});
export type IngressPath = Infer<typeof ingressPathSchema>;

const ingressSchema = record("Ingress", {
  ingressClassName: optional(string()),
  defaultBackend: ingressBackendSchema,
  tls: list(record("IngressTLS", { hosts: list(string()), secretName: string() })),
  rules: list(record("IngressRule", { host: string(), http: record("HTTPIngressRuleValue", { paths: list(ingressPathSchema) }) })),
  /** From the status. */
  loadBalancer: loadBalancerStatusSchema,
});
export type Ingress = Infer<typeof ingressSchema>;

export const ingress = defineKubernetesKind({
  kind: "Ingress",
  group: "networking.k8s.io",
  plural: "ingresses",
  shortNames: ["ing"],
  subresources: ["status"],
  columns: [
    {
      name: "Class",
      type: "string",
      cell: (raw) =>
        textAt(raw, "spec", "ingressClassName") || textAt(raw, "metadata", "annotations", "kubernetes.io/ingress.class") || "<none>",
      description: "Whose business it is",
    },
    { name: "Hosts", type: "string", cell: hosts, description: "Names that it answers for" },
    { name: "Address", type: "string", cell: addresses, description: "Where it is served" },
    {
      name: "Ports",
      type: "string",
      cell: (raw) => (objectsAt(raw, "spec", "tls").length > 0 ? "80, 443" : "80"),
      description: "Ports of it",
    },
    ageColumn,
  ],
  schema: ingressSchema,
  specAt: "spec+status",
});

function hosts(raw: RawObject): string {
  const names = objectsAt(raw, "spec", "rules")
    .map((rule) => textAt(rule, "host"))
    .filter(Boolean);
  return names.length === 0 ? "*" : names.length <= 3 ? names.join(",") : `${names.slice(0, 3).join(",")} + ${names.length - 3} more...`;
}

function addresses(raw: RawObject): string {
  return objectsAt(raw, "status", "loadBalancer", "ingress")
    .map((one) => textAt(one, "ip") || textAt(one, "hostname"))
    .join(",");
}
