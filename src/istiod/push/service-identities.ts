/**
 * Secure naming: who may be behind a service. A server that shows another identity is not the service, whoever vouches for it.
 * Source: Istio pilot/pkg/model/push_context.go (addServiceAccounts), pkg/spiffe/spiffe.go (ExpandWithTrustDomains).
 */
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { formatSpiffeId, parseSpiffeId } from "../../api/spiffe.ts";
import type { Endpoint, Service } from "../../registry/service.ts";

/** Sorted: the names that the service is declared with, and its endpoints' service accounts, in the mesh's trust domain and all its aliases. */
export function serviceIdentities(service: Service, endpoints: readonly Endpoint[], mesh: MeshConfig): string[] {
  const names = new Set(service.subjectAltNames);
  for (const { serviceAccount, namespace } of endpoints) {
    if (serviceAccount !== "") names.add(formatSpiffeId({ trustDomain: mesh.trustDomain, namespace, serviceAccount }));
  }
  for (const name of [...names]) {
    const id = parseSpiffeId(name);
    if (id) for (const trustDomain of mesh.trustDomainAliases) names.add(formatSpiffeId({ ...id, trustDomain }));
  }
  return [...names].sort();
}
