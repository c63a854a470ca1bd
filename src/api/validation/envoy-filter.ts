import { RE2JS } from "re2js";
import { type PatchedMessage, readPatchValue } from "../envoy/patched-messages.ts";
import { JsonError } from "../envoy/read-json.ts";
import type { EnvoyConfigObjectPatch, EnvoyFilter, EnvoyFilterApplyTo } from "../kinds/envoy-filter.ts";
import type { ConfigObject } from "../kinds/object.ts";
import { isPlainObject } from "../schema/decode.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkPort } from "./scalars.ts";
import { checkLabelSelector, checkTarget } from "./selection.ts";

const maxProxyVersionLength = 1024;
const connectionManager = "envoy.filters.network.http_connection_manager";
const oldConnectionManager = "envoy.http_connection_manager";

/** Names from before Envoy's v3, which it has dropped. */
const oldFilterNames: Readonly<Record<string, string>> = {
  [oldConnectionManager]: connectionManager,
  "envoy.router": "envoy.filters.http.router",
  "envoy.cors": "envoy.filters.http.cors",
  "envoy.fault": "envoy.filters.http.fault",
  "envoy.lua": "envoy.filters.http.lua",
  "envoy.buffer": "envoy.filters.http.buffer",
  "envoy.gzip": "envoy.filters.http.gzip",
  "envoy.grpc_web": "envoy.filters.http.grpc_web",
  "envoy.rate_limit": "envoy.filters.http.ratelimit",
  "envoy.ext_authz": "envoy.filters.http.ext_authz",
  "envoy.health_check": "envoy.filters.http.health_check",
  "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
  "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
  "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
  "envoy.ratelimit": "envoy.filters.network.ratelimit",
  "envoy.listener.tls_inspector": "envoy.filters.listener.tls_inspector",
  "envoy.listener.http_inspector": "envoy.filters.listener.http_inspector",
  "envoy.listener.original_dst": "envoy.filters.listener.original_dst",
  "envoy.listener.proxy_protocol": "envoy.filters.listener.proxy_protocol",
};

type MatchField = "listener" | "routeConfiguration" | "cluster";
const matchFields: Readonly<Partial<Record<EnvoyFilterApplyTo, MatchField>>> = {
  CLUSTER: "cluster",
  FILTER_CHAIN: "listener",
  HTTP_FILTER: "listener",
  HTTP_ROUTE: "routeConfiguration",
  LISTENER: "listener",
  NETWORK_FILTER: "listener",
  ROUTE_CONFIGURATION: "routeConfiguration",
  VIRTUAL_HOST: "routeConfiguration",
};

export function validateEnvoyFilter({ spec }: ConfigObject<EnvoyFilter>, report: FieldReport): void {
  report.warn(
    "an EnvoyFilter changes generated configuration, whose details may be others in the next version: prefer another kind where one will do",
  );
  checkLabelSelector(spec.workloadSelector, report.at("workloadSelector"));
  if (spec.workloadSelector && spec.targetRefs.length > 0) report.error("only one of workloadSelector and targetRefs may be given");
  for (const [index, target] of spec.targetRefs.entries()) checkTarget(target, report.at("targetRefs", index));
  for (const [index, patch] of spec.configPatches.entries()) {
    // Waypoints have no sidecar's listeners; Istio leaves their patches unchecked.
    const place = report.at("configPatches", index);
    const { waypoint, context } = patch.match ?? {};
    const otherMatch = (["listener", "routeConfiguration", "cluster"] as const).find((field) => patch.match?.[field] !== undefined);
    if (context === "WAYPOINT" && otherMatch)
      place.at("match", otherMatch).error("can't be given with context: WAYPOINT, which matches by waypoint");
    if (waypoint && context !== "WAYPOINT") place.at("match", "waypoint").error("is for context: WAYPOINT");
    if (waypoint && waypoint.portNumber !== 0) checkPort(waypoint.portNumber, place.at("match", "waypoint", "portNumber"));
    if (context !== "WAYPOINT") checkPatch(patch, place);
  }
}

function checkPatch(patch: EnvoyConfigObjectPatch, report: FieldReport): void {
  if (patch.applyTo === "INVALID") report.at("applyTo").error("is missing");
  if (!patch.patch) {
    report.at("patch").error("is missing");
    return;
  }
  const { operation, value } = patch.patch;
  if (operation === "INVALID") report.at("patch", "operation").error("is missing");
  else if (operation !== "REMOVE" && value === undefined) report.at("patch", "value").error(`is missing: ${operation} needs it`);
  checkProxyVersion(patch.match?.proxy?.proxyVersion ?? "", report.at("match", "proxy", "proxyVersion"));
  checkMatch(patch, report.at("match"));
  if (patch.applyTo !== "INVALID" && value) checkValue(patch.applyTo, value, report.at("patch", "value"));
}

function checkProxyVersion(pattern: string, report: FieldReport): void {
  if (pattern === "") return;
  if (pattern.length > maxProxyVersionLength) {
    report.warn(`is longer than ${maxProxyVersionLength} characters and matches no proxy`);
    return;
  }
  try {
    RE2JS.compile(pattern);
  } catch (error) {
    report.error(`is not a regular expression in RE2's syntax: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function checkMatch({ match, applyTo }: EnvoyConfigObjectPatch, report: FieldReport): void {
  const wanted = matchFields[applyTo];
  const given = (["listener", "routeConfiguration", "cluster", "waypoint"] as const).find((field) => match?.[field] !== undefined);
  if (wanted && given && given !== wanted) report.at(given).error(`can't be given with applyTo: ${applyTo}, which matches by ${wanted}`);
  const filter = match?.listener?.filterChain?.filter;
  if (wanted !== "listener" || !filter) return;
  const place = report.at("listener", "filterChain", "filter");
  if (applyTo === "LISTENER" || applyTo === "FILTER_CHAIN") place.warn(`has no effect with applyTo: ${applyTo}`);
  if (filter.name === "") place.at("name").error("is missing");
  warnOldName(filter.name, place.at("name"));
  if (!filter.subFilter) return;
  if (applyTo !== "HTTP_FILTER") place.at("subFilter").error("is for applyTo: HTTP_FILTER");
  if (filter.name !== connectionManager && filter.name !== oldConnectionManager)
    place.at("name").error(`must be ${connectionManager} where a subFilter is given`);
  if (filter.subFilter.name === "") place.at("subFilter", "name").error("is missing");
  warnOldName(filter.subFilter.name, place.at("subFilter", "name"));
}

function warnOldName(name: string, report: FieldReport): void {
  const today = Object.hasOwn(oldFilterNames, name) ? oldFilterNames[name] : undefined;
  if (today) report.warn(`${JSON.stringify(name)} is an old name: use ${JSON.stringify(today)}`);
}

/** The value must be of the patched message; a field that we don't know may be one of a newer Envoy's, so it is only told of. */
function checkValue(applyTo: PatchedMessage, value: Record<string, unknown>, report: FieldReport): void {
  try {
    readPatchValue(applyTo, value, {
      onUnknownField: (path, typeName) => report.at(...path).warn(`is no field of ${typeName}, and is left out`),
      onNewerField: (path, typeName) => report.at(...path).warn(`is a newer field of ${typeName}, and is left out`),
    });
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const hint = error.reason.includes(".v2.") ? "; the v2 API is gone, use the v3 type" : (error.hint && `; ${error.hint}`) || "";
    report.at(...error.path).error(`${error.reason}${hint}`);
    return;
  }
  warnUntypedConfigs(value, report);
}

/** Filters by name alone, which Envoy has ceased to look up. */
function warnUntypedConfigs(value: Record<string, unknown>, report: FieldReport): void {
  for (const [key, child] of Object.entries(value)) {
    if (/^(filters|http_?filters|listener_?filters)$/i.test(key) && Array.isArray(child)) {
      for (const [index, filter] of child.entries()) {
        if (!isPlainObject(filter)) continue;
        const isTyped = ["typed_config", "typedConfig", "config_discovery", "configDiscovery"].some((field) => filter[field] !== undefined);
        if (!isTyped) report.at(key, index).warn("has no typed_config: Envoy doesn't look filters up by their name");
      }
    }
    for (const [index, item] of (Array.isArray(child) ? child : [child]).entries()) {
      if (isPlainObject(item)) warnUntypedConfigs(item, Array.isArray(child) ? report.at(key, index) : report.at(key));
    }
  }
}
