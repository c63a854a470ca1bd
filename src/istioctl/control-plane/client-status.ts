/** What `proxy-status -o json` prints: a DiscoveryResponse of ClientConfigs, as a control plane of Istio's answers it over xDS. */
import type { Json } from "../output/proto-json.ts";
import type { ControlPlane, ProxySync } from "./ask-control-planes.ts";
import { parseBuildInfo } from "./build-info.ts";
import { typeSyncs } from "./sync-status.ts";

const typeUrl = "type.googleapis.com/envoy.service.status.v3.ClientConfig";

export function clientStatus({ name }: ControlPlane, versionText: string, proxies: readonly ProxySync[]): Json {
  const info = parseBuildInfo(versionText);
  return {
    versionInfo: info.version,
    resources: proxies.map(({ id, clusterId, istioVersion, namespace, resources }) => ({
      "@type": typeUrl,
      node: { id, metadata: { CLUSTER_ID: clusterId, ISTIO_VERSION: istioVersion, NAMESPACE: namespace } },
      genericXdsConfigs: typeSyncs(resources).map(({ typeUrl, state, sentAt, error }) => ({
        typeUrl,
        ...(sentAt === "" ? {} : { lastUpdated: sentAt }),
        configStatus: state,
        ...(error === "" ? {} : { errorState: { ...(sentAt === "" ? {} : { lastUpdateAttempt: sentAt }), details: error } }),
      })),
    })),
    typeUrl,
    controlPlane: { identifier: JSON.stringify({ Component: "istiod", ID: name, Info: { ...info } }) },
  };
}
