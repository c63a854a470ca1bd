/** Envoy and our proxy as proxies of a mesh: a bootstrap that gets everything from a control plane on loopback. */
import type { ProxyType } from "../../src/api/node.ts";

export interface MeshNode {
  readonly type: ProxyType;
  readonly name: string;
  /** Of loopback, its own, so that proxies with the same listeners can live side by side. */
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly namespace: string;
  /** Port of the control plane on loopback, or its address as Envoy writes it. */
  readonly xds: number | Readonly<Record<string, unknown>>;
  readonly isDelta: boolean;
  /** Unix socket on which the workload's certificate is had by SDS. */
  readonly sdsPath: string;
  /** Of node metadata, beside the usual ones. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly locality?: { readonly region: string; readonly zone?: string };
}

export function meshBootstrap(node: MeshNode): Record<string, unknown> {
  const { type, name, address, labels, namespace, xds, isDelta, sdsPath, metadata, locality } = node;
  const ads = { ads: {}, resource_api_version: "V3", initial_fetch_timeout: "0s" };
  return {
    node: {
      id: `${type}~${address}~${name}.${namespace}~${namespace}.svc.cluster.local`,
      cluster: `${name}.${namespace}`,
      ...(locality && { locality }),
      metadata: {
        NAMESPACE: namespace,
        LABELS: labels,
        INSTANCE_IPS: address,
        TOPSAIL_BIND_ADDRESS: address,
        PROXY_CONFIG: { concurrency: 1 },
        ISTIO_VERSION: "1.30.0",
        ...metadata,
      },
    },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
    dynamic_resources: {
      cds_config: ads,
      lds_config: ads,
      ads_config: {
        api_type: isDelta ? "DELTA_GRPC" : "GRPC",
        set_node_on_first_message_only: true,
        transport_api_version: "V3",
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }],
      },
    },
    static_resources: {
      clusters: [
        grpcCluster("xds-grpc", typeof xds === "number" ? { socket_address: { address: "127.0.0.1", port_value: xds } } : xds),
        grpcCluster("sds-grpc", { pipe: { path: sdsPath } }),
        // The agent's clusters, which listeners of the control plane may route to.
        ...["agent", "prometheus_stats"].map((cluster) => ({ name: cluster, type: "STATIC", connect_timeout: "1s" })),
      ],
    },
  };
}

function grpcCluster(name: string, address: unknown): Record<string, unknown> {
  return {
    name,
    type: "STATIC",
    connect_timeout: "1s",
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  };
}
