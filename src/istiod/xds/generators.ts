/** What a proxy gets, by resource type: the one list of generators. Pure: proxy and push context in, resources out. */

import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import type { Watch } from "../../ads/subscription.ts";
import { TypedExtensionConfigSchema } from "../../api/gen/envoy/config/core/v3/extension_pb.js";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import type { PushContext } from "../push/push-context.ts";
import { clusters } from "./clusters.ts";
import { encodeRoutes } from "./encode-routes.ts";
import { loadAssignment } from "./endpoints.ts";
import { extensionConfigs } from "./envoy-filter/extension-configs.ts";
import { serverPorts } from "./envoy-filter/match-route.ts";
import { patchRoutes } from "./envoy-filter/patch-routes.ts";
import { outboundSide } from "./envoy-filter/patched-side.ts";
import { gatewayRoutes } from "./gateway-routes.ts";
import { listeners } from "./listeners.ts";
import { nameTable } from "./name-table.ts";
import { proxylessGenerators } from "./proxyless-grpc.ts";
import { controlPlaneSecret } from "./secrets.ts";
import { sidecarRoutes } from "./sidecar-routes.ts";
import { trustBundle } from "./trust-bundle.ts";

export interface GenerateContext {
  readonly proxy: ProxyNode;
  readonly push: PushContext;
  /** A resource that was asked for and can't be made. */
  readonly onProblem: (typeUrl: TypeUrl, name: string, reason: string) => void;
}

/** Of the watch's resources, `names` alone where given. */
export type Generator = (context: GenerateContext, watch: Watch, names: ReadonlySet<string> | undefined) => readonly EncodedResource[];

const envoyGenerators: Partial<Record<string, Generator>> = {
  [typeUrls.cds]: ({ proxy, push }, watch, names) => wanted(clusters(proxy, push, names), watch),
  [typeUrls.eds]: ({ proxy, push }, watch, names) => [...(names ?? watch.names)].map((name) => loadAssignment(name, proxy, push)),
  [typeUrls.lds]: ({ proxy, push }, watch) => wanted(listeners(proxy, push), watch),
  [typeUrls.rds]: ({ proxy, push }, watch, names) =>
    [...(names ?? watch.names)].flatMap((name) =>
      proxy.type === "router" ? routes(name, proxy, push) : push.shared(typeUrls.rds, name, proxy, () => routes(name, proxy, push)),
    ),
  [typeUrls.ecds]: ({ proxy, push }, watch, names) =>
    extensionConfigs(push.envoyFilters.forProxy(proxy), names ?? watch.names, push.patchOutcomes).map((config) =>
      encodeResource(config.name, TypedExtensionConfigSchema, config),
    ),
  [typeUrls.sds]: ({ proxy, push, onProblem }, watch, names) =>
    [...(names ?? watch.names)].flatMap((name) => {
      const result = controlPlaneSecret(name, proxy, push);
      if (result && "secret" in result) return [encodeResource(name, SecretSchema, result.secret)];
      onProblem(typeUrls.sds, name, result?.problem ?? "there is no such secret");
      return [];
    }),
  [typeUrls.nds]: ({ proxy, push }) =>
    push.shared(typeUrls.nds, proxy.network, proxy, () => [encodeResource("names", NameTableSchema, nameTable(proxy, push))]),
  [typeUrls.pcds]: ({ push }) => trustBundle(push.trust),
};

function routes(name: string, proxy: ProxyNode, push: PushContext): EncodedResource[] {
  const side = outboundSide(proxy, push);
  const table =
    proxy.type === "router"
      ? patchRoutes(gatewayRoutes(name, proxy, push), side, serverPorts(push.mergedGateway(proxy)))
      : patchRoutes(sidecarRoutes(name, proxy, push), side);
  return [encodeRoutes(table)];
}

/** The generator of a type for a proxy; node metadata GENERATOR chooses another family than Envoy's. */
export function generatorFor(proxy: ProxyNode, typeUrl: string): Generator | undefined {
  const isAgents = typeUrl === typeUrls.nds || typeUrl === typeUrls.pcds;
  const family = proxy.metadata.GENERATOR === "grpc" && !isAgents ? proxylessGenerators : envoyGenerators;
  return Object.hasOwn(family, typeUrl) ? family[typeUrl] : undefined;
}

/** A client that asked for clusters or listeners by name gets those alone. */
function wanted(resources: readonly EncodedResource[], watch: Watch): readonly EncodedResource[] {
  return watch.isWildcard ? resources : resources.filter((resource) => watch.names.has(resource.name));
}
