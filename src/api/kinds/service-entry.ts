import { enumeration, type Infer, list, message, string, uint32 } from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";
import { workloadSelectorSchema } from "./sidecar.ts";
import { workloadEntrySchema } from "./workload-entry.ts";

const servicePortSchema = message("ServicePort", {
  number: uint32(),
  protocol: string(),
  name: string(),
  targetPort: uint32(),
});
export type ServicePort = Infer<typeof servicePortSchema>;

const serviceEntryLocationSchema = enumeration("MESH_EXTERNAL", "MESH_INTERNAL");
export type ServiceEntryLocation = Infer<typeof serviceEntryLocationSchema>;

const serviceEntryResolutionSchema = enumeration("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS");
export type ServiceEntryResolution = Infer<typeof serviceEntryResolutionSchema>;

const serviceEntrySchema = message("ServiceEntry", {
  hosts: list(string()),
  addresses: list(string()),
  ports: list(servicePortSchema),
  location: serviceEntryLocationSchema,
  resolution: serviceEntryResolutionSchema,
  endpoints: list(workloadEntrySchema),
  workloadSelector: workloadSelectorSchema,
  exportTo: list(string()),
  subjectAltNames: list(string()),
});
export type ServiceEntry = Infer<typeof serviceEntrySchema>;

export const serviceEntry = defineIstioKind({
  kind: "ServiceEntry",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "serviceentries",
  shortNames: ["se"],
  columns: [
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts", description: "The names of the service" },
    { name: "Location", type: "string", jsonPath: ".spec.location", description: "Whether the service is part of the mesh" },
    { name: "Resolution", type: "string", jsonPath: ".spec.resolution", description: "How its addresses are found" },
    ageColumn,
  ],
  schema: serviceEntrySchema,
});
