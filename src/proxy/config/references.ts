/**
 * What a resource refers to that comes from elsewhere: route configurations (RDS) and secrets (SDS), wherever they stand in
 * it, inside typed_config too. A resource is warm when all of them have come.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { isWellKnown } from "../../api/descriptors/well-known.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { resolveTypedStruct } from "../../api/envoy/typed-struct.ts";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type {
  HttpConnectionManager,
  Rds,
} from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { SdsSecretConfig } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";

const connectionManager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const commonTlsContext = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext";

export interface References {
  readonly routes: readonly { readonly rds: Rds; readonly statPrefix: string }[];
  readonly secrets: readonly SdsSecretConfig[];
  /** Route configurations that stand in the resource itself. */
  readonly inlineRoutes: readonly RouteConfiguration[];
  /** TLS of listeners and clusters, with the certificates that stand in it. */
  readonly tlsContexts: readonly CommonTlsContext[];
}

export function findReferences(desc: DescMessage, message: Message): References {
  const routes: { rds: Rds; statPrefix: string }[] = [];
  let statPrefix = "";
  const secrets: SdsSecretConfig[] = [];
  const inlineRoutes: RouteConfiguration[] = [];
  const tlsContexts: CommonTlsContext[] = [];
  const visit = (node: ReflectMessage): void => {
    switch (node.desc.typeName) {
      case "envoy.extensions.filters.network.http_connection_manager.v3.Rds":
        routes.push({ rds: node.message as Rds, statPrefix });
        return;
      case "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig":
        secrets.push(node.message as SdsSecretConfig);
        return;
      case "envoy.config.route.v3.RouteConfiguration":
        inlineRoutes.push(node.message as RouteConfiguration);
        return;
      case "google.protobuf.Any": {
        const content = anyUnpack(resolveTypedStruct(node.message as Any), envoyTypes);
        const inner = content && envoyTypes.getMessage(content.$typeName);
        if (content && inner && mayRefer(inner)) visit(reflect(inner, content));
        return;
      }
      default:
        if (node.desc.typeName === connectionManager) statPrefix = (node.message as HttpConnectionManager).statPrefix;
        if (node.desc.typeName === commonTlsContext) tlsContexts.push(node.message as CommonTlsContext);
        for (const field of node.desc.fields) {
          if (!field.message || !mayRefer(field.message) || !node.isSet(field)) continue;
          if (field.fieldKind === "message") visit(node.get(field) as ReflectMessage);
          else if (field.fieldKind === "list") for (const item of node.get(field) as Iterable<ReflectMessage>) visit(item);
          else for (const [, item] of node.get(field) as Iterable<[unknown, ReflectMessage]>) visit(item);
        }
    }
  };
  visit(reflect(desc, message));
  return { routes, secrets, inlineRoutes, tlsContexts };
}

const known = new Map<DescMessage, boolean>();

/** Whether a message type can hold a reference at all; most of a listener can't and is not walked. */
function mayRefer(desc: DescMessage): boolean {
  const answer = known.get(desc);
  if (answer !== undefined) return answer;
  if (/\.(Any|Rds|SdsSecretConfig|RouteConfiguration|CommonTlsContext)$/.test(desc.typeName)) {
    known.set(desc, true);
    return true;
  }
  if (isWellKnown(desc)) {
    known.set(desc, false);
    return false;
  }
  known.set(desc, false); // a type that contains itself adds nothing
  const result = desc.fields.some((field) => field.message !== undefined && mayRefer(field.message));
  known.set(desc, result);
  return result;
}
