/**
 * Whether the clusters of a route configuration exist. Envoy asks that of inline route configurations, and of those by RDS only
 * where they say validate_clusters: true, because CDS may come later.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { walkMessages } from "../../api/envoy/walk-messages.ts";
import type { Route, RouteAction_RequestMirrorPolicy } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";

/** `byDefault`: for configurations that don't set validate_clusters. Throws ConfigError in Envoy's words. */
export function checkRouteClusters(
  schema: DescMessage,
  message: Message,
  hasCluster: (name: string) => boolean,
  { byDefault }: { readonly byDefault: boolean },
): void {
  walkMessages(schema, message, envoyTypes, ({ desc, message: inner }) => {
    if (desc.typeName !== RouteConfigurationSchema.typeName) return;
    const config = inner.message as RouteConfiguration;
    if (!(config.validateClusters ?? byDefault)) return;
    for (const host of config.virtualHosts) {
      for (const route of host.routes) {
        const policies = [host.requestMirrorPolicies, config.requestMirrorPolicies].find((list) => list.length > 0) ?? [];
        checkRoute(route, policies, hasCluster);
      }
    }
  });
}

function checkRoute({ action }: Route, inherited: readonly RouteAction_RequestMirrorPolicy[], hasCluster: (name: string) => boolean): void {
  if (action.case !== "route") return;
  const { clusterSpecifier, requestMirrorPolicies } = action.value;
  const unknown = (kind: string, name: string) => {
    if (name !== "" && !hasCluster(name)) throw new ConfigError(`route: unknown ${kind}cluster '${name}'`);
  };
  if (clusterSpecifier.case === "cluster") unknown("", clusterSpecifier.value);
  if (clusterSpecifier.case === "weightedClusters") for (const { name } of clusterSpecifier.value.clusters) unknown("weighted ", name);
  const mirrors = requestMirrorPolicies.length > 0 ? requestMirrorPolicies : inherited;
  for (const { cluster } of mirrors) unknown("shadow ", cluster);
}
