/**
 * Where `sds://` names are asked for: a server of secrets beside the proxy, on a Unix socket at Istio's place. A proxy of ours has the same
 * cluster in its bootstrap, and keeps that. Source: Istio pilot/pkg/networking/core/cluster_builder.go (buildExternalSDSCluster).
 */
import { create } from "@bufbuild/protobuf";
import { type Cluster, Cluster_DiscoveryType, ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  HttpProtocolOptions_ExplicitHttpConfigSchema,
  HttpProtocolOptionsSchema,
} from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { any, duration } from "./messages.ts";
import { externalCluster } from "./sds-secrets.ts";

const socketPath = "./var/run/secrets/credential-uds/socket";

export function externalSdsCluster({ connectTimeout }: MeshConfig): Cluster {
  const http2 = create(HttpProtocolOptions_ExplicitHttpConfigSchema, { protocolConfig: { case: "http2ProtocolOptions", value: {} } });
  return create(ClusterSchema, {
    name: externalCluster,
    altStatName: `${externalCluster};`,
    connectTimeout: duration(connectTimeout ?? 10_000),
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    loadAssignment: {
      clusterName: externalCluster,
      endpoints: [
        {
          lbEndpoints: [
            {
              hostIdentifier: {
                case: "endpoint",
                value: { address: { address: { case: "pipe", value: { path: socketPath } } } },
              },
            },
          ],
        },
      ],
    },
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any(HttpProtocolOptionsSchema, {
        upstreamProtocolOptions: { case: "explicitHttpConfig", value: http2 },
      }),
    },
  });
}
