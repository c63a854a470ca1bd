import { enumeration, type Infer, map, message, string, uint32 } from "../schema/schema.ts";

export const workloadSelectorSchema = message("WorkloadSelector", {
  matchLabels: map(string()),
});
export type WorkloadSelector = Infer<typeof workloadSelectorSchema>;

export const portSelectorSchema = message("PortSelector", {
  number: uint32(),
});
export type PortSelector = Infer<typeof portSelectorSchema>;

export const workloadModeSchema = enumeration("UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER");
export type WorkloadMode = Infer<typeof workloadModeSchema>;

export const policyTargetReferenceSchema = message("PolicyTargetReference", {
  group: string(),
  kind: string(),
  name: string(),
  namespace: string(),
});
export type PolicyTargetReference = Infer<typeof policyTargetReferenceSchema>;
