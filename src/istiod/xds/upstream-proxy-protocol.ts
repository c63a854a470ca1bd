/**
 * trafficPolicy.proxyProtocol: endpoints are told by a PROXY header whose connection they get, whatever transport follows it.
 * Source: Istio pilot/pkg/networking/core/cluster_traffic_policy.go (applyUpstreamProxyProtocol).
 */
import { create } from "@bufbuild/protobuf";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { ProxyProtocolConfig_Version, ProxyProtocolConfigSchema } from "../../api/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../api/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import type { ProxyProtocol } from "../../api/kinds/destination-rule.ts";
import { any } from "./messages.ts";
import { plaintext } from "./upstream-tls.ts";

/** After the cluster's transport sockets are there. */
export function applyUpstreamProxyProtocol(cluster: Cluster, settings: ProxyProtocol | undefined): void {
  if (!settings) return;
  const config = create(ProxyProtocolConfigSchema, { version: ProxyProtocolConfig_Version[settings.version] });
  const around = (transportSocket: TransportSocket) =>
    create(TransportSocketSchema, {
      name: "envoy.transport_sockets.upstream_proxy_protocol",
      configType: { case: "typedConfig", value: any(ProxyProtocolUpstreamTransportSchema, { config, transportSocket }) },
    });
  if (cluster.transportSocket) cluster.transportSocket = around(cluster.transportSocket);
  else if (cluster.transportSocketMatches.length === 0) cluster.transportSocket = around(plaintext());
  for (const match of cluster.transportSocketMatches) if (match.transportSocket) match.transportSocket = around(match.transportSocket);
}
