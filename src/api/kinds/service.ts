import { isPlainObject } from "../schema/decode.ts";
import { bool, type Infer, int32, intOrString, list, map, optional, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { numberAt, objectAt, objectsAt, type RawObject, textAt, textsAt } from "./raw-fields.ts";

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
  subresources: ["status"],
  columns: [
    { name: "Type", type: "string", jsonPath: ".spec.type", description: "How it can be reached" },
    { name: "Cluster-IP", type: "string", cell: (raw) => textAt(raw, "spec", "clusterIP") || "<none>", description: "Its own address" },
    { name: "External-IP", type: "string", cell: externalAddress, description: "Where it is reached from outside" },
    { name: "Port(s)", type: "string", cell: portsText, description: "Its ports" },
    ageColumn,
    {
      name: "Selector",
      type: "string",
      cell: (raw) => labelsText(objectAt(raw, "spec", "selector")),
      description: "Labels of its workloads",
      priority: 1,
    },
  ],
  defaults: serviceDefaults,
  selectableFields: {
    "spec.clusterIP": (raw) => textAt(raw, "spec", "clusterIP"),
    "spec.type": (raw) => textAt(raw, "spec", "type"),
  },
  schema: serviceSchema,
  specAt: "spec+status",
});

function externalAddress(raw: RawObject): string {
  const type = textAt(raw, "spec", "type");
  if (type === "ExternalName") return textAt(raw, "spec", "externalName");
  const balanced = objectsAt(raw, "status", "loadBalancer", "ingress").map((one) => textAt(one, "ip") || textAt(one, "hostname"));
  const all = [...(type === "LoadBalancer" ? balanced : []), ...textsAt(raw, "spec", "externalIPs")];
  return all.length > 0 ? all.join(",") : type === "LoadBalancer" ? "<pending>" : "<none>";
}

/** `80:31380/TCP,443/TCP` */
function portsText(raw: RawObject): string {
  const ports = objectsAt(raw, "spec", "ports").map((port) => {
    const nodePort = numberAt(port, "nodePort");
    return `${numberAt(port, "port") ?? ""}${nodePort ? `:${nodePort}` : ""}/${textAt(port, "protocol") || "TCP"}`;
  });
  return ports.join(",") || "<none>";
}

/** `app=reviews,version=v1` */
export function labelsText(labels: RawObject): string {
  return (
    Object.entries(labels)
      .map(([name, value]) => `${name}=${String(value)}`)
      .sort()
      .join(",") || "<none>"
  );
}

function serviceDefaults(raw: RawObject): Record<string, unknown> {
  const given = objectAt(raw, "spec");
  const type = textAt(given, "type") || "ClusterIP";
  const spec: Record<string, unknown> = { sessionAffinity: "None", ...given, type };
  if (type !== "ExternalName") spec.internalTrafficPolicy ??= "Cluster";
  if (type === "NodePort" || type === "LoadBalancer") spec.externalTrafficPolicy ??= "Cluster";
  if (Array.isArray(given.ports)) {
    spec.ports = given.ports.map((port) =>
      isPlainObject(port)
        ? { protocol: "TCP", ...port, ...(type === "ExternalName" ? {} : { targetPort: port.targetPort || port.port }) }
        : port,
    );
  }
  return { ...raw, spec, status: { loadBalancer: {}, ...objectAt(raw, "status") } };
}
