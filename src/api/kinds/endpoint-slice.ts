import { bool, type Infer, list, optional, record, string } from "../schema/schema.ts";
import { endpointPortSchema, objectReferenceSchema } from "./endpoints.ts";
import { defineKubernetesKind } from "./kind.ts";

const sliceEndpointSchema = record("Endpoint", {
  addresses: list(string()),
  /** Kubernetes reads an absent `ready` and `serving` as true, an absent `terminating` as false. */
  conditions: record("EndpointConditions", { ready: optional(bool()), serving: optional(bool()), terminating: optional(bool()) }),
  hostname: string(),
  nodeName: string(),
  zone: string(),
  targetRef: objectReferenceSchema,
});
export type SliceEndpoint = Infer<typeof sliceEndpointSchema>;

const endpointSliceSchema = record("EndpointSlice", {
  /** IPv4, IPv6 or FQDN. */
  addressType: string(),
  endpoints: list(sliceEndpointSchema),
  ports: list(endpointPortSchema),
});
export type EndpointSlice = Infer<typeof endpointSliceSchema>;

/** Belongs to the Service that its label `kubernetes.io/service-name` names. */
export const endpointSlice = defineKubernetesKind({
  kind: "EndpointSlice",
  group: "discovery.k8s.io",
  plural: "endpointslices",
  schema: endpointSliceSchema,
  specAt: "root",
});
