/** Types of xDS as everybody calls them. Source: Istio pkg/model/xds.go. */
export const shortTypes: Readonly<Record<string, string>> = {
  "type.googleapis.com/envoy.config.cluster.v3.Cluster": "CDS",
  "type.googleapis.com/envoy.config.listener.v3.Listener": "LDS",
  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment": "EDS",
  "type.googleapis.com/envoy.config.route.v3.RouteConfiguration": "RDS",
  "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig": "ECDS",
  "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret": "SDS",
  "type.googleapis.com/istio.networking.nds.v1.NameTable": "NDS",
  "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig": "PCDS",
  "type.googleapis.com/istio.security.Authorization": "WADS",
  "type.googleapis.com/istio.workload.Address": "WDS",
};

export function shortType(typeUrl: string): string {
  return shortTypes[typeUrl] ?? typeUrl;
}
