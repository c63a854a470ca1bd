/** Type URLs of the resources that travel over ADS, by the short names that Envoy and Istio give the services. */
export const typeUrls = {
  cds: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  eds: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  lds: "type.googleapis.com/envoy.config.listener.v3.Listener",
  rds: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  sds: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
  ecds: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
  nds: "type.googleapis.com/istio.networking.nds.v1.NameTable",
  pcds: "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig",
} as const;

export type XdsService = keyof typeof typeUrls;
export type TypeUrl = (typeof typeUrls)[XdsService];

/** Of requests by which an agent tells how its workload is: an error is what is wrong, none means well. They ask for nothing. */
export const healthReportTypeUrl = "type.googleapis.com/istio.v1.HealthInformation";
