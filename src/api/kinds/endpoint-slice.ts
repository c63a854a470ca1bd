import { bool, type Infer, list, optional, record, string } from "../schema/schema.ts";
import { endpointPortSchema, listed, objectReferenceSchema, withPortDefaults } from "./endpoints.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { numberAt, objectsAt, textsAt } from "./raw-fields.ts";

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
  columns: [
    { name: "AddressType", type: "string", jsonPath: ".addressType", description: "IPv4, IPv6 or FQDN" },
    {
      name: "Ports",
      type: "string",
      cell: (raw) => listed(objectsAt(raw, "ports").map((port) => String(numberAt(port, "port") ?? "*"))).replace("<none>", "<unset>"),
      description: "Ports of every endpoint",
    },
    {
      name: "Endpoints",
      type: "string",
      cell: (raw) => listed(objectsAt(raw, "endpoints").flatMap((endpoint) => textsAt(endpoint, "addresses"))).replace("<none>", "<unset>"),
      description: "Addresses, ready or not",
    },
    ageColumn,
  ],
  defaults: (raw) => ({ ...withPortDefaults(raw) }),
  schema: endpointSliceSchema,
  specAt: "root",
});
