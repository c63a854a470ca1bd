import { type Infer, map, message, string, uint32 } from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";

export const workloadEntrySchema = message("WorkloadEntry", {
  address: string(),
  ports: map(uint32()),
  labels: map(string()),
  network: string(),
  locality: string(),
  weight: uint32(),
  serviceAccount: string(),
});
export type WorkloadEntry = Infer<typeof workloadEntrySchema>;

export const workloadEntry = defineIstioKind({
  kind: "WorkloadEntry",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "workloadentries",
  shortNames: ["we"],
  columns: [ageColumn, { name: "Address", type: "string", jsonPath: ".spec.address", description: "The address of the workload" }],
  schema: workloadEntrySchema,
});
