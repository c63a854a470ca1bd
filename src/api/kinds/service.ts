import { bool, type Infer, int32, intOrString, list, map, optional, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

const kubernetesServicePortSchema = record("ServicePort", {
  name: string(),
  /** TCP when it isn't written. */
  protocol: string(),
  appProtocol: optional(string()),
  port: int32(),
  /** The same as `port` when it isn't written. */
  targetPort: intOrString(),
  nodePort: int32(),
});
export type KubernetesServicePort = Infer<typeof kubernetesServicePortSchema>;

export const loadBalancerStatusSchema = record("LoadBalancerStatus", {
  ingress: list(record("LoadBalancerIngress", { ip: string(), hostname: string() })),
});

const serviceSchema = record("Service", {
  ports: list(kubernetesServicePortSchema),
  selector: map(string()),
  /** ClusterIP when it isn't written. */
  type: string(),
  /** `None` for a headless service. */
  clusterIP: string(),
  clusterIPs: list(string()),
  externalIPs: list(string()),
  externalName: string(),
  sessionAffinity: string(),
  publishNotReadyAddresses: bool(),
  internalTrafficPolicy: string(),
  externalTrafficPolicy: string(),
  trafficDistribution: string(),
  ipFamilies: list(string()),
  /** From the status. */
  loadBalancer: loadBalancerStatusSchema,
});
export type Service = Infer<typeof serviceSchema>;

export const service = defineKubernetesKind({
  kind: "Service",
  group: "",
  plural: "services",
  shortNames: ["svc"],
  categories: ["all"],
  schema: serviceSchema,
  specAt: "spec+status",
});
