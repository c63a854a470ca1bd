/** Ingresses as what they stand for: Gateways and VirtualServices, older than all that were written. */
import type { MeshConfig } from "../../../api/mesh/mesh-config.ts";
import { compareAge, type ObjectsOf } from "../../../registry/registry.ts";
import { ingressGateway } from "./ingress-gateways.ts";
import { ingressVirtualServices } from "./ingress-virtual-services.ts";
import { supportedIngresses } from "./supported-ingresses.ts";

/** The objects, and those that are made of Ingresses among them. */
export function withIngresses(objects: ObjectsOf, mesh: MeshConfig, domain: string): ObjectsOf {
  const ingresses = supportedIngresses(objects, mesh);
  if (ingresses.length === 0) return objects;
  const gateways = ingresses.flatMap((ingress) => ingressGateway(ingress, mesh) ?? []);
  const virtualServices = ingressVirtualServices(ingresses, objects, domain);
  const all = {
    Gateway: [...gateways, ...objects("Gateway")].sort(compareAge),
    VirtualService: [...virtualServices, ...objects("VirtualService")].sort(compareAge),
  };
  return (kind) => (kind === "Gateway" || kind === "VirtualService" ? all[kind] : objects(kind));
}
