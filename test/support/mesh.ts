/** A push context from YAML, and proxies to look at it from: what the generators' tests start with. No sockets, no clock. */

import { create, fromBinary, type JsonObject } from "@bufbuild/protobuf";
import { HeldResources } from "../../src/ads/held-resources.ts";
import type { EncodedResource } from "../../src/ads/resource.ts";
import type { Watch } from "../../src/ads/subscription.ts";
import { decodeDocuments } from "../../src/api/documents/decode-documents.ts";
import { type Cluster, ClusterSchema } from "../../src/api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { NodeSchema } from "../../src/api/gen/envoy/config/core/v3/base_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../src/api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { type Listener, ListenerSchema } from "../../src/api/gen/envoy/config/listener/v3/listener_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../src/api/gen/envoy/config/route/v3/route_pb.js";
import type { ConfigObject } from "../../src/api/kinds/object.ts";
import { decodeMeshConfig, decodeMeshNetworks } from "../../src/api/mesh/decode-mesh.ts";
import { type ProxyNode, parseNode } from "../../src/api/node.ts";
import { typeUrls } from "../../src/api/type-urls.ts";
import { PushContext } from "../../src/istiod/push/push-context.ts";
import { generatorFor } from "../../src/istiod/xds/generators.ts";
import { nodeExtensions } from "../../src/proxy/extensions.ts";
import { compareAge, type ObjectsOf } from "../../src/registry/registry.ts";

/** Objects in the order of the text, the first one the oldest. Throws what is wrong with the text. */
export function objectsOf(yaml: string): ObjectsOf {
  const { objects, errors } = decodeDocuments(yaml, "test.yaml");
  if (errors[0]) throw new Error(errors.map((error) => error.describe()).join("\n"));
  const aged = objects.map(
    (object, index): ConfigObject => ({ ...object, metadata: { ...object.metadata, creationTimestamp: 1000 + index } }),
  );
  return (kind) => aged.filter((object) => object.kind === kind).sort(compareAge);
}

export function pushContextOf(yaml: string, meshYaml = "", networksYaml?: string): PushContext {
  const { value, errors } = decodeMeshConfig(meshYaml, "mesh.yaml");
  if (!value) throw errors[0];
  const networks = networksYaml === undefined ? undefined : decodeMeshNetworks(networksYaml, "networks.yaml");
  if (networks?.errors[0]) throw networks.errors[0];
  return new PushContext({
    version: "test/1",
    mesh: value,
    objects: objectsOf(yaml),
    domain: "cluster.local",
    ...(networks?.value ? { networks: networks.value } : {}),
  });
}

export interface NodeInit {
  readonly ip?: string;
  readonly namespace?: string;
  readonly labels?: Record<string, string>;
  readonly metadata?: JsonObject;
  readonly locality?: { region: string; zone?: string; subZone?: string };
  /** As our proxy and Istio's are; a stock Envoy is not. */
  readonly hasIstioFilters?: boolean;
  /** Of an HTTP filter of ours that the proxy doesn't have yet. */
  readonly lacks?: string;
}

export function routerNode(init: NodeInit = {}): ProxyNode {
  return node("router", { ip: "10.9.0.1", labels: { istio: "ingressgateway" }, ...init });
}

export function sidecarNode(init: NodeInit = {}): ProxyNode {
  return node("sidecar", { ip: "10.9.1.1", ...init });
}

function node(type: string, init: NodeInit): ProxyNode {
  const { ip = "10.9.0.1", namespace = "default", labels = {}, metadata = {}, locality } = init;
  return parseNode(
    create(NodeSchema, {
      id: `${type}~${ip}~test.${namespace}~${namespace}.svc.cluster.local`,
      metadata: { NAMESPACE: namespace, LABELS: labels, ...metadata },
      ...(locality ? { locality } : {}),
      ...(init.hasIstioFilters ? { extensions: nodeExtensions().filter(({ name }) => name !== init.lacks) } : {}),
    }),
  );
}

function generate(typeUrl: string, proxy: ProxyNode, push: PushContext, names: readonly string[] = []): readonly EncodedResource[] {
  const watch: Watch = {
    typeUrl,
    isWildcard: names.length === 0,
    names: new Set(names),
    held: HeldResources.none,
    nonceSent: "",
    nonceAcked: "",
    versionSent: "",
    lastError: undefined,
    alwaysRespond: false,
  };
  const onProblem = (_: string, name: string, reason: string) => {
    throw new Error(`${name}: ${reason}`);
  };
  return generatorFor(proxy, typeUrl)!({ proxy, push, onProblem }, watch, undefined);
}

export function clustersOf(proxy: ProxyNode, push: PushContext): Map<string, Cluster> {
  return new Map(generate(typeUrls.cds, proxy, push).map((resource) => [resource.name, fromBinary(ClusterSchema, resource.bytes)]));
}

export function listenersOf(proxy: ProxyNode, push: PushContext): Map<string, Listener> {
  return new Map(generate(typeUrls.lds, proxy, push).map((resource) => [resource.name, fromBinary(ListenerSchema, resource.bytes)]));
}

export function routesOf(name: string, proxy: ProxyNode, push: PushContext): RouteConfiguration {
  return fromBinary(RouteConfigurationSchema, generate(typeUrls.rds, proxy, push, [name])[0]!.bytes);
}

export function endpointsOf(cluster: string, proxy: ProxyNode, push: PushContext): ClusterLoadAssignment {
  return fromBinary(ClusterLoadAssignmentSchema, generate(typeUrls.eds, proxy, push, [cluster])[0]!.bytes);
}

/** `10.1.0.1:8080` of each endpoint, in order. */
export function addressesOf(assignment: ClusterLoadAssignment): string[] {
  return assignment.endpoints.flatMap((locality) =>
    locality.lbEndpoints.map((endpoint) => {
      const address = endpoint.hostIdentifier.case === "endpoint" ? endpoint.hostIdentifier.value.address?.address : undefined;
      if (address?.case === "pipe") return address.value.path;
      return address?.case === "socketAddress" ? `${address.value.address}:${address.value.portSpecifier.value}` : "";
    }),
  );
}
