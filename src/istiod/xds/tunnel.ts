/**
 * trafficPolicy.tunnel: a destination is a proxy that is asked for a tunnel to the target. It stands on listeners, and a subset has its own or
 * none. Source: Istio pilot/pkg/networking/core/tunnelingconfig/apply.go.
 */
import type { TunnelSettings } from "../../api/kinds/destination-rule.ts";
import type { RouteDestination } from "../../api/kinds/virtual-service.ts";
import type { Service } from "../../registry/service.ts";
import type { RouteContext } from "./http-routes.ts";

/** What TcpProxy.TunnelingConfig says. */
export interface Tunnel {
  /** `host:port` */
  readonly hostname: string;
  readonly usePost: boolean;
}

/** Of a rule's destinations: of several the first one's service decides, whatever their subsets say. */
export function tunnelOfRoutes(routes: readonly RouteDestination[], namespace: string, context: RouteContext): Tunnel | undefined {
  const destination = routes[0]?.destination;
  const service = destination && context.push.destinationService(context.proxy, destination.host, namespace);
  return service && tunnelOfService(service, context, routes.length === 1 ? destination.subset : "");
}

export function tunnelOfService(service: Service, { proxy, push }: Pick<RouteContext, "proxy" | "push">, subset = ""): Tunnel | undefined {
  const spec = push.destinationRules.forService(proxy, service)?.spec;
  const policy = subset === "" ? spec?.trafficPolicy : spec?.subsets.find(({ name }) => name === subset)?.trafficPolicy;
  return policy?.tunnel && tunnelOf(policy.tunnel);
}

function tunnelOf({ protocol, targetHost, targetPort }: TunnelSettings): Tunnel {
  return { hostname: `${targetHost.includes(":") ? `[${targetHost}]` : targetHost}:${targetPort}`, usePost: protocol === "POST" };
}
