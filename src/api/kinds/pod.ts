import { bool, type Infer, int32, list, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

const containerSchema = record("Container", {
  name: string(),
  image: string(),
  ports: list(record("ContainerPort", { name: string(), containerPort: int32(), protocol: string(), hostPort: int32() })),
});

/** The part of a pod that a Deployment's template has too. */
export const podSpecFields = {
  containers: list(containerSchema),
  initContainers: list(containerSchema),
  serviceAccountName: string(),
  nodeName: string(),
  hostname: string(),
  subdomain: string(),
  hostNetwork: bool(),
};

const podSchema = record("Pod", {
  ...podSpecFields,
  /** From the status: Pending, Running, Succeeded, Failed or Unknown. */
  phase: string(),
  podIP: string(),
  podIPs: list(record("PodIP", { ip: string() })),
  hostIP: string(),
  conditions: list(record("PodCondition", { type: string(), status: string() })),
});
export type Pod = Infer<typeof podSchema>;

export const pod = defineKubernetesKind({
  kind: "Pod",
  group: "",
  plural: "pods",
  shortNames: ["po"],
  categories: ["all"],
  schema: podSchema,
  specAt: "spec+status",
});
