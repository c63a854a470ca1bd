/** PCDS: the roots that agents are to trust, and what is revoked, told to those that are connected. Source: Istio pilot/pkg/xds/pcds.go. */
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { ProxyConfigSchema } from "../../api/gen/istio/mesh/v1alpha1/proxy_config_pb.js";
import { type TrustUpdate, trustUpdateMessage } from "../../api/trust-update.ts";

/** Nothing where no authority runs. */
export function trustBundle(update: TrustUpdate): EncodedResource[] {
  if (update.roots.length === 0) return [];
  return [encodeResource("mesh", ProxyConfigSchema, trustUpdateMessage(update))];
}
