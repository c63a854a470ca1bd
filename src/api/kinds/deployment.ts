import { type Infer, int32, map, optional, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { podSpecFields } from "./pod.ts";
import { podSpecDefaults } from "./pod-defaults.ts";
import { numberAt, objectAt, objectsAt, type RawObject, textAt } from "./raw-fields.ts";
import { labelsText } from "./service.ts";

const deploymentSchema = record("Deployment", {
  /** 1 when it isn't written. */
  replicas: optional(int32()),
  selector: record("LabelSelector", { matchLabels: map(string()) }),
  template: record("PodTemplate", {
    metadata: record("ObjectMeta", { labels: map(string()), annotations: map(string()) }),
    spec: record("PodSpec", podSpecFields),
  }),
});
export type Deployment = Infer<typeof deploymentSchema>;

export const deployment = defineKubernetesKind({
  kind: "Deployment",
  group: "apps",
  plural: "deployments",
  shortNames: ["deploy"],
  categories: ["all"],
  subresources: ["status", "scale"],
  columns: [
    {
      name: "Ready",
      type: "string",
      cell: (raw) => `${counted(raw, "readyReplicas")}/${wantedReplicas(raw)}`,
      description: "Pods that are ready, of those wanted",
    },
    {
      name: "Up-to-date",
      type: "string",
      cell: (raw) => String(counted(raw, "updatedReplicas")),
      description: "Pods made from the present template",
    },
    { name: "Available", type: "string", cell: (raw) => String(counted(raw, "availableReplicas")), description: "Pods that can be used" },
    ageColumn,
    { name: "Containers", type: "string", cell: (raw) => containersOf(raw, "name"), description: "Names of its containers", priority: 1 },
    { name: "Images", type: "string", cell: (raw) => containersOf(raw, "image"), description: "What they run", priority: 1 },
    {
      name: "Selector",
      type: "string",
      cell: (raw) => labelsText(objectAt(raw, "spec", "selector", "matchLabels")),
      description: "Labels of its pods",
      priority: 1,
    },
  ],
  defaults: deploymentDefaults,
  schema: deploymentSchema,
  specAt: "spec",
});

/** 1 when it isn't written. */
export function wantedReplicas(raw: RawObject): number {
  return numberAt(raw, "spec", "replicas") ?? 1;
}

function counted(raw: RawObject, field: "readyReplicas" | "updatedReplicas" | "availableReplicas"): number {
  return numberAt(raw, "status", field) ?? 0;
}

function containersOf(raw: RawObject, field: "name" | "image"): string {
  return objectsAt(raw, "spec", "template", "spec", "containers")
    .map((container) => textAt(container, field))
    .join(",");
}

function deploymentDefaults(raw: RawObject): Record<string, unknown> {
  const given = objectAt(raw, "spec");
  const template = objectAt(given, "template");
  const strategy = objectAt(given, "strategy");
  const type = textAt(strategy, "type") || "RollingUpdate";
  const rolling = { maxUnavailable: "25%", maxSurge: "25%", ...objectAt(strategy, "rollingUpdate") };
  const spec = {
    progressDeadlineSeconds: 600,
    replicas: 1,
    revisionHistoryLimit: 10,
    ...given,
    strategy: { ...strategy, type, ...(type === "RollingUpdate" ? { rollingUpdate: rolling } : {}) },
    template: { ...template, spec: podSpecDefaults(objectAt(template, "spec")) },
  };
  return { ...raw, spec };
}
