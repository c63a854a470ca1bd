import { bool, type Infer, int32, list, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { podDefaults } from "./pod-defaults.ts";
import { readyText, restarts, statusText } from "./pod-state.ts";
import { textAt } from "./raw-fields.ts";

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
  subresources: ["status"],
  columns: [
    { name: "Ready", type: "string", cell: readyText, description: "Containers that are ready, of all" },
    { name: "Status", type: "string", cell: statusText, description: "How the pod does, in one word" },
    { name: "Restarts", type: "string", cell: (raw) => String(restarts(raw)), description: "How often containers were started again" },
    ageColumn,
    { name: "IP", type: "string", cell: (raw) => textAt(raw, "status", "podIP") || "<none>", description: "Its address", priority: 1 },
    { name: "Node", type: "string", cell: (raw) => textAt(raw, "spec", "nodeName") || "<none>", description: "Where it runs", priority: 1 },
    { name: "Nominated Node", type: "string", cell: () => "<none>", description: "Where room is made for it", priority: 1 },
    { name: "Readiness Gates", type: "string", cell: () => "<none>", description: "Further conditions of readiness", priority: 1 },
  ],
  defaults: podDefaults,
  selectableFields: {
    "spec.nodeName": (raw) => textAt(raw, "spec", "nodeName"),
    "spec.restartPolicy": (raw) => textAt(raw, "spec", "restartPolicy"),
    "spec.serviceAccountName": (raw) => textAt(raw, "spec", "serviceAccountName"),
    "status.phase": (raw) => textAt(raw, "status", "phase"),
    "status.podIP": (raw) => textAt(raw, "status", "podIP"),
  },
  schema: podSchema,
  specAt: "spec+status",
});
