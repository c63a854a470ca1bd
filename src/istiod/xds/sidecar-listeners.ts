/**
 * virtualOutbound, the listener of a sidecar to which all that its workload calls is redirected. Those for outbound ports
 * (sidecar-outbound.ts) only take over what it hands them by its original destination.
 * Source: Istio pilot/pkg/networking/core/listener_builder.go.
 */
import { create } from "@bufbuild/protobuf";
import { blackHoleCluster } from "../../api/cluster-name.ts";
import { TrafficDirection } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { FilterChainSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import type { PushContext } from "../push/push-context.ts";
import { listenerAccessLogs } from "./access-log.ts";
import { captureAddresses } from "./bind-address.ts";
import { isIntercepted, isTransparent } from "./inbound-targets.ts";
import { istioTcpFilters } from "./istio-filters.ts";
import { listensOn } from "./messages.ts";
import { tcpProxy } from "./tcp-proxy.ts";

/** Empty without interception: there is nothing to redirect, listeners take their ports themselves. */
export function virtualOutbound(proxy: ProxyNode, push: PushContext): Listener[] {
  if (!isIntercepted(proxy)) return [];
  const port = push.mesh.proxyListenPort || 15001;
  const stats = istioTcpFilters("sidecarOutbound", proxy, push.mesh);
  const { catchAllCluster: catchAll } = push.sidecarScope(proxy);
  const listener = create(ListenerSchema, {
    name: "virtualOutbound",
    ...listensOn(captureAddresses(proxy), port),
    useOriginalDst: true,
    ...(isTransparent(proxy) ? { transparent: true } : {}),
    trafficDirection: TrafficDirection.OUTBOUND,
    accessLog: listenerAccessLogs(push.mesh),
    filterChains: [
      // What asks for the port itself would go round in circles.
      create(FilterChainSchema, {
        name: "virtualOutbound-blackhole",
        filterChainMatch: { destinationPort: port },
        filters: [...stats, tcpProxy(blackHoleCluster, [{ cluster: blackHoleCluster, weight: 1 }], push.mesh)],
      }),
      create(FilterChainSchema, {
        name: "virtualOutbound-catchall-tcp",
        filters: [...stats, tcpProxy(catchAll, [{ cluster: catchAll, weight: 1 }], push.mesh)],
      }),
    ],
    maxConnectionsToAcceptPerSocketEvent: 1,
  });
  return [listener];
}
