import { type Infer, int32, map, optional, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";
import { podSpecFields } from "./pod.ts";

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
  schema: deploymentSchema,
  specAt: "spec",
});
