import { type Infer, int32, list, optional, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";
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
  schema: ingressSchema,
  specAt: "spec+status",
});
