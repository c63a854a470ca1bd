/** RouteAction.RequestMirrorPolicy: which requests are sent a second time, and where to. */
import { ConfigError } from "../../api/config-error.ts";
import type { RouteAction_RequestMirrorPolicy } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { runtimeFraction } from "../fraction.ts";

export interface MirrorPolicy {
  readonly cluster: string;
  /** Name of the request header that names the cluster, "" when `cluster` does. */
  readonly clusterHeader: string;
  /** Share of requests, in [0, 1]. */
  readonly chance: number;
  /** The host tells that the request is a second one. */
  readonly addsSuffix: boolean;
}

export function compileMirrors(policies: readonly RouteAction_RequestMirrorPolicy[]): readonly MirrorPolicy[] {
  return policies.map(({ cluster, clusterHeader, runtimeFraction: fraction, disableShadowHostSuffixAppend }) => {
    if (cluster !== "" && clusterHeader !== "") throw new ConfigError("Only one of cluster or cluster_header can be specified");
    if (cluster === "" && clusterHeader === "") throw new ConfigError("Exactly one of cluster or cluster_header need to be specified");
    return {
      cluster,
      clusterHeader: clusterHeader.toLowerCase(),
      chance: runtimeFraction(fraction, 1),
      addsSuffix: !disableShadowHostSuffixAppend,
    };
  });
}
