/** What of an EnvoyFilter can't have any effect, whatever the configuration of the mesh; in Istio it has none either. */
import type {
  EnvoyConfigObjectMatch,
  EnvoyConfigObjectPatch,
  EnvoyFilterApplyTo,
  EnvoyFilterPatchOperation,
} from "../../api/kinds/envoy-filter.ts";
import type { ObjectOf } from "../../api/kinds/index.ts";
import { isGatewayTarget } from "./policy-index.ts";

type Operation = EnvoyFilterPatchOperation;

const inserts: readonly Operation[] = ["ADD", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER"];
const merges: readonly Operation[] = ["MERGE", "MERGE_AND_REPLACE_LIST"];

/** To insert where there is no order is to add. */
const operations: Readonly<Partial<Record<EnvoyFilterApplyTo, readonly Operation[]>>> = {
  CLUSTER: [...inserts, ...merges, "REMOVE"],
  EXTENSION_CONFIG: inserts,
  FILTER_CHAIN: [...inserts, ...merges, "REMOVE"],
  HTTP_FILTER: [...inserts, "MERGE", "REMOVE", "REPLACE"],
  HTTP_ROUTE: [...inserts, ...merges, "REMOVE"],
  LISTENER: [...inserts, ...merges, "REMOVE"],
  LISTENER_FILTER: [...inserts, "MERGE", "REMOVE", "REPLACE"],
  NETWORK_FILTER: [...inserts, "MERGE", "REMOVE", "REPLACE"],
  ROUTE_CONFIGURATION: merges,
  VIRTUAL_HOST: [...inserts, ...merges, "REMOVE", "REPLACE"],
};

export function idlePatches({ spec }: ObjectOf<"EnvoyFilter">): string[] {
  const strange = spec.targetRefs.filter((target) => !isGatewayTarget(target));
  return [
    ...strange.map(({ kind, name }) => `target ${kind} ${name} is for waypoints, of which this mesh has none: nothing is patched by it`),
    ...spec.configPatches.flatMap((patch, index) => {
      const sentence = idle(patch);
      return sentence === undefined ? [] : [`configPatches[${index}]: ${sentence}`];
    }),
  ];
}

function idle({ applyTo, match, patch }: EnvoyConfigObjectPatch): string | undefined {
  if (match?.context === "WAYPOINT") return "is for waypoints, of which this mesh has none";
  if (applyTo === "BOOTSTRAP") return "proxies take their bootstrap from their agent alone: it is not patched";
  if (!patch || patch.operation === "INVALID" || applyTo === "INVALID") return undefined;
  const { operation } = patch;
  if (!operations[applyTo]?.includes(operation)) return `${operation} does nothing to a ${applyTo}`;
  if (needsName(applyTo, operation) && !namesFilter(applyTo, match)) {
    return `${operation} of a ${applyTo} does nothing without a match that names the filter`;
  }
  return undefined;
}

function needsName(applyTo: EnvoyFilterApplyTo, operation: Operation): boolean {
  return operation === "REMOVE" || operation === "REPLACE" || (operation === "MERGE" && applyTo === "LISTENER_FILTER");
}

function namesFilter(applyTo: EnvoyFilterApplyTo, match: EnvoyConfigObjectMatch | undefined): boolean {
  const listener = match?.listener;
  switch (applyTo) {
    case "HTTP_FILTER":
      return listener?.filterChain?.filter?.subFilter !== undefined;
    case "NETWORK_FILTER":
      return listener?.filterChain?.filter !== undefined;
    case "LISTENER_FILTER":
      return (listener?.listenerFilter ?? "") !== "";
    default:
      return true;
  }
}
