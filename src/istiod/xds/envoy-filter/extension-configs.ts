/**
 * ECDS: configurations of filters by name, which filters ask for by config_discovery. Here they come from EnvoyFilters alone.
 * Source: Istio pilot/pkg/networking/core/envoyfilter/extension_configuration_patch.go.
 */
import { clone } from "@bufbuild/protobuf";
import { type TypedExtensionConfig, TypedExtensionConfigSchema } from "../../../api/gen/envoy/config/core/v3/extension_pb.js";
import type { ProxyPatches } from "../../push/envoy-filter-index.ts";
import type { PatchOutcomes } from "../../push/patch-status.ts";

/** Of `names`, those that there are; of several with one name the last counts. */
export function extensionConfigs(patches: ProxyPatches, names: ReadonlySet<string>, outcomes: PatchOutcomes): TypedExtensionConfig[] {
  const byName = new Map<string, TypedExtensionConfig>();
  for (const patch of patches.all("EXTENSION_CONFIG")) {
    const config = patch.value as TypedExtensionConfig | undefined;
    if (patch.operation !== "ADD" || !config || !names.has(config.name)) continue;
    byName.set(config.name, clone(TypedExtensionConfigSchema, config));
    outcomes.applied(patch);
  }
  return [...byName.values()];
}
