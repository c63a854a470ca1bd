import { enumeration, type Infer, int32, list, map, message, string, struct, uint32 } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema } from "./selectors.ts";
import { workloadSelectorSchema } from "./sidecar.ts";

const envoyFilterApplyToSchema = enumeration(
  "INVALID",
  "LISTENER",
  "FILTER_CHAIN",
  "NETWORK_FILTER",
  "HTTP_FILTER",
  "ROUTE_CONFIGURATION",
  "VIRTUAL_HOST",
  "HTTP_ROUTE",
  "CLUSTER",
  "EXTENSION_CONFIG",
  "BOOTSTRAP",
  "LISTENER_FILTER",
);
export type EnvoyFilterApplyTo = Infer<typeof envoyFilterApplyToSchema>;

const envoyFilterPatchContextSchema = enumeration("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT");
export type EnvoyFilterPatchContext = Infer<typeof envoyFilterPatchContextSchema>;

const proxyMatchSchema = message("ProxyMatch", {
  proxyVersion: string(),
  metadata: map(string()),
});
export type ProxyMatch = Infer<typeof proxyMatchSchema>;

const listenerMatchSubFilterMatchSchema = message("SubFilterMatch", {
  name: string(),
});
export type ListenerMatchSubFilterMatch = Infer<typeof listenerMatchSubFilterMatchSchema>;

const listenerMatchFilterMatchSchema = message("FilterMatch", {
  name: string(),
  subFilter: listenerMatchSubFilterMatchSchema,
});
export type ListenerMatchFilterMatch = Infer<typeof listenerMatchFilterMatchSchema>;

const filterChainMatchSchema = message("FilterChainMatch", {
  name: string(),
  sni: string(),
  transportProtocol: string(),
  transportSocket: string(),
  applicationProtocols: string(),
  filter: listenerMatchFilterMatchSchema,
  destinationPort: uint32(),
});
export type FilterChainMatch = Infer<typeof filterChainMatchSchema>;

const listenerMatchSchema = message("ListenerMatch", {
  portNumber: uint32(),
  portName: string(),
  filterChain: filterChainMatchSchema,
  listenerFilter: string(),
  name: string(),
});
export type ListenerMatch = Infer<typeof listenerMatchSchema>;

const routeConfigurationMatchRouteMatchActionSchema = enumeration("ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE");
export type RouteConfigurationMatchRouteMatchAction = Infer<typeof routeConfigurationMatchRouteMatchActionSchema>;

const routeConfigurationMatchRouteMatchSchema = message("RouteMatch", {
  name: string(),
  action: routeConfigurationMatchRouteMatchActionSchema,
});
export type RouteConfigurationMatchRouteMatch = Infer<typeof routeConfigurationMatchRouteMatchSchema>;

const virtualHostMatchSchema = message("VirtualHostMatch", {
  name: string(),
  domainName: string(),
  route: routeConfigurationMatchRouteMatchSchema,
});
export type VirtualHostMatch = Infer<typeof virtualHostMatchSchema>;

const routeConfigurationMatchSchema = message("RouteConfigurationMatch", {
  portNumber: uint32(),
  portName: string(),
  gateway: string(),
  vhost: virtualHostMatchSchema,
  name: string(),
});
export type RouteConfigurationMatch = Infer<typeof routeConfigurationMatchSchema>;

const clusterMatchSchema = message("ClusterMatch", {
  portNumber: uint32(),
  service: string(),
  subset: string(),
  name: string(),
});
export type ClusterMatch = Infer<typeof clusterMatchSchema>;

const waypointMatchRouteMatchSchema = message("RouteMatch", {
  name: string(),
});
export type WaypointMatchRouteMatch = Infer<typeof waypointMatchRouteMatchSchema>;

const waypointMatchFilterMatchSubFilterMatchSchema = message("SubFilterMatch", {
  name: string(),
});
export type WaypointMatchFilterMatchSubFilterMatch = Infer<typeof waypointMatchFilterMatchSubFilterMatchSchema>;

const waypointMatchFilterMatchSchema = message("FilterMatch", {
  name: string(),
  subFilter: waypointMatchFilterMatchSubFilterMatchSchema,
});
export type WaypointMatchFilterMatch = Infer<typeof waypointMatchFilterMatchSchema>;

const waypointMatchSchema = message("WaypointMatch", {
  portNumber: uint32(),
  route: waypointMatchRouteMatchSchema,
  filter: waypointMatchFilterMatchSchema,
});
export type WaypointMatch = Infer<typeof waypointMatchSchema>;

const envoyConfigObjectMatchSchema = message(
  "EnvoyConfigObjectMatch",
  {
    context: envoyFilterPatchContextSchema,
    proxy: proxyMatchSchema,
    listener: listenerMatchSchema,
    routeConfiguration: routeConfigurationMatchSchema,
    cluster: clusterMatchSchema,
    waypoint: waypointMatchSchema,
  },
  { oneofs: [["listener", "routeConfiguration", "cluster", "waypoint"]] },
);
export type EnvoyConfigObjectMatch = Infer<typeof envoyConfigObjectMatchSchema>;

const envoyFilterPatchOperationSchema = enumeration(
  "INVALID",
  "MERGE",
  "ADD",
  "REMOVE",
  "INSERT_BEFORE",
  "INSERT_AFTER",
  "INSERT_FIRST",
  "REPLACE",
  "MERGE_AND_REPLACE_LIST",
);
export type EnvoyFilterPatchOperation = Infer<typeof envoyFilterPatchOperationSchema>;

const filterClassSchema = enumeration("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS");
export type FilterClass = Infer<typeof filterClassSchema>;

const envoyFilterPatchSchema = message("Patch", {
  operation: envoyFilterPatchOperationSchema,
  value: struct(),
  filterClass: filterClassSchema,
});
export type EnvoyFilterPatch = Infer<typeof envoyFilterPatchSchema>;

const envoyConfigObjectPatchSchema = message("EnvoyConfigObjectPatch", {
  applyTo: envoyFilterApplyToSchema,
  match: envoyConfigObjectMatchSchema,
  patch: envoyFilterPatchSchema,
});
export type EnvoyConfigObjectPatch = Infer<typeof envoyConfigObjectPatchSchema>;

const envoyFilterSchema = message("EnvoyFilter", {
  workloadSelector: workloadSelectorSchema,
  targetRefs: list(policyTargetReferenceSchema),
  configPatches: list(envoyConfigObjectPatchSchema),
  priority: int32(),
});
export type EnvoyFilter = Infer<typeof envoyFilterSchema>;

export const envoyFilter = defineIstioKind({
  kind: "EnvoyFilter",
  group: "networking.istio.io",
  versions: ["v1alpha3"],
  plural: "envoyfilters",
  schema: envoyFilterSchema,
});
