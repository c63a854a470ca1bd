/** What a control plane says of a mesh of so many services: a cluster by EDS each, and one listener whose routes lead to them. */
import { create } from "@bufbuild/protobuf";
import { type Any, anyPack, type DurationSchema } from "@bufbuild/protobuf/wkt";
import { Cluster_DiscoveryType, ClusterSchema } from "../src/api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AddressSchema } from "../src/api/gen/envoy/config/core/v3/address_pb.js";
import { LbEndpointSchema, LocalityLbEndpointsSchema } from "../src/api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { ClusterLoadAssignmentSchema } from "../src/api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../src/api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteSchema } from "../src/api/gen/envoy/config/route/v3/route_components_pb.js";
import { RouteConfigurationSchema } from "../src/api/gen/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "../src/api/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "../src/api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { type NamedAny, pack } from "../test/support/scripted-ads-server.ts";

export const routeConfigurationName = "bench";
/** Its value says how often the route was changed. */
export const routeHeader = "x-route-version";

const ads = { resourceApiVersion: 2, configSourceSpecifier: { case: "ads", value: {} } } as const;
const seconds = (count: number) =>
  ({ seconds: BigInt(count), nanos: 0 }) satisfies Partial<ReturnType<typeof create<typeof DurationSchema>>>;

export const clusterName = (index: number) => `outbound|8080||service-${index}.shop.svc.cluster.local`;
export const pathOf = (index: number) => `/service-${index}/`;

/** Of odd versions the upstream sees header names in upper case. */
export function cluster(index: number, version: number): NamedAny {
  const name = clusterName(index);
  const format = { case: "properCaseWords", value: {} } as const;
  const message = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ads },
    connectTimeout: seconds(10 + version),
    circuitBreakers: {
      thresholds: [{ maxConnections: 2 ** 32 - 1, maxPendingRequests: 2 ** 32 - 1, maxRequests: 2 ** 32 - 1, maxRetries: 2 ** 32 - 1 }],
    },
    ...(version % 2 === 1 && { httpProtocolOptions: { headerKeyFormat: { headerFormat: format } } }),
    metadata: {
      filterMetadata: {
        istio: { services: [{ host: `service-${index}.shop.svc.cluster.local`, name: `service-${index}`, namespace: "shop" }] },
      },
    },
  });
  return { name, version: `v${version}`, content: pack(ClusterSchema, message) };
}

export function assignment(index: number, addresses: readonly string[], port: number, version: string): NamedAny {
  const name = clusterName(index);
  const message = create(ClusterLoadAssignmentSchema, {
    clusterName: name,
    endpoints: [
      create(LocalityLbEndpointsSchema, {
        locality: { region: "region-1", zone: "zone-1" },
        loadBalancingWeight: addresses.length,
        lbEndpoints: addresses.map((address) =>
          create(LbEndpointSchema, {
            hostIdentifier: { case: "endpoint", value: { address: socketAddress(address, port) } },
            loadBalancingWeight: 1,
          }),
        ),
      }),
    ],
  });
  return { name, version, content: pack(ClusterLoadAssignmentSchema, message) };
}

/** `version` of the last route. */
export function routes(count: number, version: number): NamedAny {
  const message = create(RouteConfigurationSchema, {
    name: routeConfigurationName,
    virtualHosts: [
      {
        name: "all",
        domains: ["*"],
        routes: Array.from({ length: count }, (_, index) =>
          create(RouteSchema, {
            name: `service-${index}`,
            match: { pathSpecifier: { case: "prefix", value: pathOf(index) } },
            action: {
              case: "route",
              value: {
                clusterSpecifier: { case: "cluster", value: clusterName(index) },
                timeout: seconds(0),
                retryPolicy: { retryOn: "connect-failure,refused-stream,unavailable,cancelled", numRetries: 2 },
              },
            },
            ...(index === count - 1 && { responseHeadersToAdd: [{ header: { key: routeHeader, value: String(version) } }] }),
          }),
        ),
      },
    ],
  });
  return { name: message.name, version: `v${version}`, content: pack(RouteConfigurationSchema, message) };
}

export function listener(port: number): NamedAny {
  const manager = create(HttpConnectionManagerSchema, {
    statPrefix: "bench",
    routeSpecifier: { case: "rds", value: { configSource: ads, routeConfigName: routeConfigurationName } },
    httpFilters: [
      { name: "envoy.filters.http.router", configType: { case: "typedConfig", value: anyPack(RouterSchema, create(RouterSchema)) as Any } },
    ],
  });
  const message = create(ListenerSchema, {
    name: "bench",
    address: socketAddress("127.0.0.1", port),
    filterChains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            configType: { case: "typedConfig", value: anyPack(HttpConnectionManagerSchema, manager) as Any },
          },
        ],
      },
    ],
  });
  return { name: message.name, version: "v1", content: pack(ListenerSchema, message) };
}

function socketAddress(address: string, port: number) {
  return create(AddressSchema, {
    address: { case: "socketAddress", value: { address, portSpecifier: { case: "portValue", value: port } } },
  });
}
