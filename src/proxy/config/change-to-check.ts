/** What of a route configuration has to be checked when it takes the place of another: what has changed, and what holds between virtual hosts. */
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { changeOfRoutes, decodeChanged } from "../router/encoded-routes.ts";
import { checkDomains } from "../router/route-table.ts";
import type { ResourceChange } from "./named-resources.ts";

/** undefined: all of it. Throws for what is no message. */
export function changeToCheck(known: Uint8Array, bytes: Uint8Array): ResourceChange<RouteConfiguration> | undefined {
  const change = changeOfRoutes(known, bytes);
  // Clusters go, so that what led to them is right no more although it is as it was.
  if (change === undefined || change.configuration.validateClusters) return undefined;
  return {
    message: decodeChanged(change),
    checkWhole() {
      checkDomains(
        change.configuration.name,
        change.hosts.map(({ host }) => host),
      );
    },
  };
}
