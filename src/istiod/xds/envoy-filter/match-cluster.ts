/** Whether a cluster is one that a patch means. Source: Istio pilot/pkg/networking/core/envoyfilter/cluster_patch.go (clusterMatch). */
import { parseClusterName } from "../../../api/cluster-name.ts";
import type { Patch } from "../../push/envoy-filter-patches.ts";

/** `inboundHosts`: services that a cluster leads to whose name doesn't tell, an inbound one. */
export function matchesCluster(name: string, { match }: Patch, inboundHosts: readonly string[]): boolean {
  const wanted = match?.cluster;
  if (!wanted) return true;
  if (wanted.name !== "") return wanted.name === name;
  const parts = parseClusterName(name);
  const hosts = parts?.direction === "inbound" && inboundHosts.length > 0 ? inboundHosts : [parts?.host ?? ""];
  return (
    (wanted.subset === "" || wanted.subset === parts?.subset) &&
    (wanted.service === "" || hosts.includes(wanted.service)) &&
    (wanted.portNumber === 0 || wanted.portNumber === parts?.port)
  );
}
