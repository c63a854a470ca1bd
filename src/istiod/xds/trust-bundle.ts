/** PCDS: the roots that agents are to trust, told to those that are connected. Source: Istio pilot/pkg/xds/pcds.go. */
import { create } from "@bufbuild/protobuf";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { ProxyConfigSchema } from "../../api/gen/istio/mesh/v1alpha1/proxy_config_pb.js";

/** Nothing where no authority runs. */
export function trustBundle(roots: readonly string[]): EncodedResource[] {
  if (roots.length === 0) return [];
  return [encodeResource("mesh", ProxyConfigSchema, create(ProxyConfigSchema, { caCertificatesPem: [...roots] }))];
}
