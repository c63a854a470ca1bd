import { type Infer, map, message, string, uint32 } from "../schema/schema.ts";

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
