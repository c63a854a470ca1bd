import { formatHostPort } from "../../lib/host-port.ts";
import { isPlainObject } from "../schema/decode.ts";
import { type Infer, int32, list, optional, record, string } from "../schema/schema.ts";
import { ageColumn, defineKubernetesKind } from "./kind.ts";
import { numberAt, objectsAt, type RawObject, textAt } from "./raw-fields.ts";

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
  columns: [{ name: "Endpoints", type: "string", cell: addresses, description: "Addresses that are ready" }, ageColumn],
  defaults: (raw) => (Array.isArray(raw.subsets) ? { ...raw, subsets: raw.subsets.map(withPortDefaults) } : raw),
  schema: endpointsSchema,
  specAt: "root",
});

/** More than a line can hold is counted. */
const shown = 3;

function addresses(raw: RawObject): string {
  const all = objectsAt(raw, "subsets").flatMap((subset) => {
    const ports = objectsAt(subset, "ports").map((port) => numberAt(port, "port"));
    return objectsAt(subset, "addresses").flatMap((address) => {
      const ip = textAt(address, "ip");
      return ports.length === 0 ? [ip] : ports.map((port) => formatHostPort({ host: ip, port: port ?? 0 }));
    });
  });
  return listed(all);
}

export function listed(all: readonly string[]): string {
  if (all.length === 0) return "<none>";
  return all.length <= shown ? all.join(",") : `${all.slice(0, shown).join(",")} + ${all.length - shown} more...`;
}

/** Ports of Endpoints and of EndpointSlices are TCP's when they don't say. */
export function withPortDefaults<T>(holder: T): T | Record<string, unknown> {
  if (!isPlainObject(holder) || !Array.isArray(holder.ports)) return holder;
  return { ...holder, ports: holder.ports.map((port) => (isPlainObject(port) ? { protocol: "TCP", ...port } : port)) };
}
