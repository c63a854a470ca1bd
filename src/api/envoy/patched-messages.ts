/** The values of EnvoyFilter's patches: JSON of the message that each `applyTo` means. */
import type { DescMessage, JsonValue, Message } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { BootstrapSchema } from "../gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { TypedExtensionConfigSchema } from "../gen/envoy/config/core/v3/extension_pb.js";
import { FilterChainSchema, FilterSchema, ListenerFilterSchema } from "../gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../gen/envoy/config/listener/v3/listener_pb.js";
import { RouteSchema, VirtualHostSchema } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { RouteConfigurationSchema } from "../gen/envoy/config/route/v3/route_pb.js";
import { HttpFilterSchema } from "../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { EnvoyFilterApplyTo } from "../kinds/envoy-filter.ts";
import { patchTypes } from "./patch-types.ts";
import { type ReadJsonOptions, readJson } from "./read-json.ts";

export const patchedMessages = {
  BOOTSTRAP: BootstrapSchema,
  CLUSTER: ClusterSchema,
  EXTENSION_CONFIG: TypedExtensionConfigSchema,
  FILTER_CHAIN: FilterChainSchema,
  HTTP_FILTER: HttpFilterSchema,
  HTTP_ROUTE: RouteSchema,
  LISTENER: ListenerSchema,
  LISTENER_FILTER: ListenerFilterSchema,
  NETWORK_FILTER: FilterSchema,
  ROUTE_CONFIGURATION: RouteConfigurationSchema,
  VIRTUAL_HOST: VirtualHostSchema,
} as const satisfies Record<Exclude<EnvoyFilterApplyTo, "INVALID">, DescMessage>;

export type PatchedMessage = keyof typeof patchedMessages;

/** Fields that we don't know are left out, as Istio leaves them out; `options` hears of them. Throws JsonError. */
export function readPatchValue(
  applyTo: PatchedMessage,
  value: Record<string, unknown>,
  options: Pick<ReadJsonOptions, "onUnknownField" | "onNewerField"> = {},
): Message {
  const schema = patchedMessages[applyTo] as GenMessage<Message>;
  return readJson(schema, value as JsonValue, { registry: patchTypes, onUnknownField: () => {}, ...options });
}
