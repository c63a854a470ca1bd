/** Patches of clusters. Source: Istio pilot/pkg/networking/core/envoyfilter/cluster_patch.go. */
import { clone } from "@bufbuild/protobuf";
import { type Cluster, ClusterSchema } from "../../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Patch } from "../../push/envoy-filter-patches.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";
import { addedBy, mergePatch } from "./apply-patch.ts";
import { matchesCluster } from "./match-cluster.ts";
import { mergeTypedConfig } from "./merge-typed.ts";
import type { PatchedSide } from "./patched-side.ts";

/** The cluster as the patches make it; undefined: they remove it. `inboundHosts`: see matchesCluster. */
export function patchCluster(
  cluster: Cluster,
  { patches, context, outcomes }: PatchedSide,
  inboundHosts: readonly string[] = [],
): Cluster | undefined {
  let patched = cluster;
  for (const patch of patches.of("CLUSTER", context)) {
    if (!matchesCluster(patched.name, patch, inboundHosts)) continue;
    switch (patch.operation) {
      case "REMOVE":
        outcomes.applied(patch);
        return undefined;
      case "MERGE":
      case "MERGE_AND_REPLACE_LIST":
        if (patched === cluster) patched = clone(ClusterSchema, cluster);
        mergeCluster(patched, patch, outcomes);
        break;
    }
  }
  return patched;
}

export function addedClusters(side: PatchedSide): Cluster[] {
  return addedBy("CLUSTER", ClusterSchema, side);
}

/** A patch with a transport socket changes nothing else, as in Istio. */
function mergeCluster(cluster: Cluster, patch: Patch, outcomes: PatchOutcomes): void {
  const given = patch.value as Cluster;
  if (!given.transportSocket) {
    mergePatch(ClusterSchema, cluster, patch, outcomes);
    return;
  }
  const { name, configType } = given.transportSocket;
  const matches = cluster.transportSocketMatches;
  const target = [
    ...matches.map(({ transportSocket }) => transportSocket),
    matches.length === 0 ? cluster.transportSocket : undefined,
  ].find((socket) => socket?.name === name);
  if (target) {
    if (target.configType.case !== "typedConfig" || configType.case !== "typedConfig") return;
    const merged = mergeTypedConfig(target.configType.value, configType.value, patch, outcomes);
    if (merged) target.configType = { case: "typedConfig", value: merged };
    return;
  }
  // Beside transport_socket_matches there is to be no transport_socket.
  if (matches.length > 0) return;
  cluster.transportSocket = clone(ClusterSchema, given).transportSocket!;
  outcomes.applied(patch);
}
