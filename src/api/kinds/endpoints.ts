import { type Infer, int32, list, optional, record, string } from "../schema/schema.ts";
import { defineKubernetesKind } from "./kind.ts";

/** The object that an address belongs to, as a rule a Pod. */
export const objectReferenceSchema = record("ObjectReference", { kind: string(), namespace: string(), name: string() });

const endpointAddressSchema = record("EndpointAddress", {
  ip: string(),
  hostname: string(),
  nodeName: string(),
  targetRef: objectReferenceSchema,
});

export const endpointPortSchema = record("EndpointPort", {
  name: string(),
  port: int32(),
  protocol: string(),
  appProtocol: optional(string()),
});

const endpointSubsetSchema = record("EndpointSubset", {
  addresses: list(endpointAddressSchema),
  notReadyAddresses: list(endpointAddressSchema),
  ports: list(endpointPortSchema),
});
export type EndpointSubset = Infer<typeof endpointSubsetSchema>;

const endpointsSchema = record("Endpoints", { subsets: list(endpointSubsetSchema) });
export type Endpoints = Infer<typeof endpointsSchema>;

/** Named as the Service that they belong to. */
export const endpoints = defineKubernetesKind({
  kind: "Endpoints",
  group: "",
  plural: "endpoints",
  shortNames: ["ep"],
  schema: endpointsSchema,
  specAt: "root",
});
