/**
 * Which proxies get the same: what a cluster, a sidecar's routes and its outbound listeners are made from, of a proxy, as one key.
 * In a mesh of a thousand services it is not each of five hundred sidecars that has to be worked for, but each kind of sidecar.
 *
 * Labels count only where a rule asks for them, and then only those that it asks for.
 */
import type { DestinationRule } from "../../api/kinds/destination-rule.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { VirtualService } from "../../api/kinds/virtual-service.ts";
import type { ProxyNode } from "../../api/node.ts";

export class AudienceKeys {
  /** Labels that a VirtualService's `sourceLabels` or a DestinationRule's `workloadSelector` names. */
  readonly #labels: readonly string[];

  constructor(virtualServices: readonly ConfigObject<VirtualService>[], destinationRules: readonly ConfigObject<DestinationRule>[]) {
    const labels = new Set<string>();
    for (const { spec } of virtualServices) {
      for (const { match } of [...spec.http, ...spec.tcp, ...spec.tls]) {
        for (const { sourceLabels } of match) for (const label of Object.keys(sourceLabels)) labels.add(label);
      }
    }
    for (const { spec } of destinationRules) {
      for (const label of Object.keys(spec.workloadSelector?.matchLabels ?? {})) labels.add(label);
    }
    this.#labels = [...labels].sort();
  }

  /**
   * `scope` names what the proxy's Sidecar lets it see, `patches` the EnvoyFilters' patches of all that; `usesAllocated`: whether it knows
   * services by allocated addresses.
   */
  keyOf(proxy: ProxyNode, scope: string, patches: string, usesAllocated: boolean): string {
    const { INTERCEPTION_MODE, UNPRIVILEGED_POD, "file-credential": fileCredential, credential } = proxy.metadata;
    const families = [...new Set(proxy.ipAddresses.map((address) => (address.includes(":") ? "v6" : "v4")))].sort().join("");
    const labels = this.#labels.map((label) => proxy.labels[label]);
    const capture = [INTERCEPTION_MODE, UNPRIVILEGED_POD, usesAllocated, proxy.isDualStack];
    // Where clusters say that certificates come from.
    const secrets = [proxy.hasIdentity, fileCredential, credential, proxy.serverFiles, proxy.clientFiles];
    const filters = [proxy.hasIstioFilters, proxy.hasGrpcStats, proxy.tellsOnlyMesh];
    return JSON.stringify([proxy.type, scope, proxy.dnsDomain, families, capture, secrets, filters, labels, patches]);
  }
}
