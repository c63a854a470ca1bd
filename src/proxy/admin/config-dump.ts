/**
 * /config_dump: what is in force, what warms, what was refused, in the messages of envoy.admin.v3 as JSON.
 *
 * `resource` picks one list of one of these messages, `mask` some of their fields, `name_regex` the resources by name,
 * `include_eds` adds the endpoints. Private keys never leave.
 */
import type { DescMessage, JsonObject, JsonValue, MessageShape } from "@bufbuild/protobuf";
import { RE2JS } from "re2js";
import { redactJson } from "../../api/envoy/redact.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { jsonText, writeJson } from "../../api/envoy/write-json.ts";
import { BootstrapSchema } from "../../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type ClusterRecord, decodeCluster, type RejectedRecord } from "../config/cluster-record.ts";
import type { ListenerRecord } from "../config/listener-manager.ts";
import { findReferences } from "../config/references.ts";
import type { ProxyServer } from "../server.ts";
import { type AdminHandler, type AdminResponse, isSet } from "./admin-handler.ts";
import { endpointsDump } from "./endpoints-dump.ts";
import { maskJson } from "./field-mask.ts";
import { regexReason } from "./stats.ts";

const prefix = "type.googleapis.com/envoy.admin.v3.";

type NameFilter = (name: string) => boolean;

export const configDump: AdminHandler = {
  path: "/config_dump",
  help: "dump current Envoy configs",
  params: [
    ["resource", "The list to dump, such as dynamic_listeners"],
    ["mask", "Fields to dump, as a field mask; with resource, of every element"],
    ["name_regex", "Only resources whose name matches (Google re2)"],
    ["include_eds", "Dump endpoints too"],
  ],
  handle(server, { query }) {
    let passes: NameFilter = () => true;
    const pattern = query.get("name_regex");
    if (pattern) {
      try {
        const regex = RE2JS.compile(pattern);
        passes = (name) => regex.matches(name);
      } catch (error) {
        return {
          status: 400,
          type: "plain",
          body: `INVALID_ARGUMENT: Error while parsing name_regex from ${pattern}: ${regexReason(error)}`,
        };
      }
    }
    const dumps = [
      bootstrapDump(server),
      clustersDump(server, passes),
      ...(isSet(query, "include_eds") ? [endpointsDump(server, passes)] : []),
      listenersDump(server, passes),
      { "@type": `${prefix}ScopedRoutesConfigDump` },
      routesDump(server, passes),
      secretsDump(server, passes),
    ];
    const resource = query.get("resource");
    const mask = query.get("mask");
    if (resource) return oneResource(dumps, resource, mask);
    if (mask) return masked(dumps, mask);
    return answer(dumps);
  },
};

function answer(configs: readonly JsonObject[]): AdminResponse {
  return { type: "json", body: jsonText(configs.length > 0 ? { configs: configs as JsonObject[] } : {}) };
}

function oneResource(dumps: readonly JsonObject[], resource: string, mask: string | null): AdminResponse {
  for (const dump of dumps) {
    const desc = descOf(dump);
    const field = desc?.fields.find((candidate) => candidate.name === resource);
    if (!field) continue;
    if (field.fieldKind !== "list" || !field.message) {
      return { status: 400, type: "plain", body: `${resource} is not a repeated field. Use ?mask=${resource} to get only this field` };
    }
    const { message } = field;
    const items = ((dump[resource] ?? []) as JsonObject[]).map(
      (item): JsonObject => ({ "@type": `type.googleapis.com/${message.typeName}`, ...item }),
    );
    if (mask === null) return answer(items);
    const kept = items.flatMap((item) => present(maskJson(message, item, mask.split(","))));
    if (items.length > 0 && kept.length === 0)
      return { status: 400, type: "plain", body: `FieldMask ${mask} could not be successfully applied to any configs.` };
    return answer(kept);
  }
  return { status: 404, type: "plain", body: `${resource} not found in config dump` };
}

function masked(dumps: readonly JsonObject[], mask: string): AdminResponse {
  const kept = dumps.flatMap((dump) => {
    const desc = descOf(dump);
    return present(desc && maskJson(desc, dump, mask.split(",")));
  });
  if (kept.length === 0) return { status: 400, type: "plain", body: `FieldMask ${mask} could not be successfully applied to any configs.` };
  return answer(kept);
}

function present(json: JsonObject | undefined): JsonObject[] {
  return json ? [json] : [];
}

function descOf(dump: JsonObject): DescMessage | undefined {
  return envoyTypes.getMessage(String(dump["@type"]).slice("type.googleapis.com/".length));
}

/** A resource as an Any: its type, then its fields, without secrets. */
export function anyJson<S extends DescMessage>(schema: S, message: MessageShape<S>): JsonObject {
  return { "@type": `type.googleapis.com/${schema.typeName}`, ...redactJson(schema, writeJson(schema, message), envoyTypes) };
}

function bootstrapDump(server: ProxyServer): JsonObject {
  return {
    "@type": `${prefix}BootstrapConfigDump`,
    bootstrap: redactJson(BootstrapSchema, writeJson(BootstrapSchema, server.bootstrap), envoyTypes),
    last_updated: server.startedAt.toISOString(),
  };
}

function clustersDump(server: ProxyServer, passes: NameFilter): JsonObject {
  const { active, warming, rejected } = server.clusters.list();
  const dynamic = (record: ClusterRecord) => ({
    ...versionOf(record),
    cluster: anyJson(ClusterSchema, decodeCluster(record)),
    last_updated: record.updatedAt.toISOString(),
  });
  const shown = active.filter(({ name }) => passes(name));
  return {
    "@type": `${prefix}ClustersConfigDump`,
    ...(server.clusters.versionInfo !== "" && { version_info: server.clusters.versionInfo }),
    ...list(
      "static_clusters",
      shown
        .filter(({ isStatic }) => isStatic)
        .map((record) => ({
          cluster: anyJson(ClusterSchema, decodeCluster(record)),
          last_updated: record.updatedAt.toISOString(),
        })),
    ),
    ...list("dynamic_active_clusters", shown.filter(({ isStatic }) => !isStatic).map(dynamic)),
    ...list("dynamic_warming_clusters", [
      ...warming.filter(({ name }) => passes(name)).map(dynamic),
      ...rejected.filter(({ name }) => passes(name)).map((record) => ({ error_state: errorState(record) })),
    ]),
  };
}

function listenersDump(server: ProxyServer, passes: NameFilter): JsonObject {
  const { active, warming, rejected } = server.listeners.list();
  const state = (record: ListenerRecord) => ({
    ...versionOf(record),
    listener: anyJson(ListenerSchema, record.message),
    last_updated: record.updatedAt.toISOString(),
  });
  const isDynamic = ({ isStatic, name }: ListenerRecord) => !isStatic && passes(name);
  const activeByName = new Map(active.filter(isDynamic).map((record) => [record.name, record]));
  const warmingByName = new Map(warming.filter(isDynamic).map((record) => [record.name, record]));
  const rejectedByName = new Map(rejected.filter(({ name }) => passes(name)).map((record) => [record.name, record]));
  const names = new Set([...activeByName.keys(), ...warmingByName.keys(), ...rejectedByName.keys()]);
  const statics = [...active, ...warming].filter(({ isStatic, name }) => isStatic && passes(name));
  return {
    "@type": `${prefix}ListenersConfigDump`,
    ...(server.listeners.versionInfo !== "" && { version_info: server.listeners.versionInfo }),
    ...list(
      "static_listeners",
      statics.map((record) => ({
        listener: anyJson(ListenerSchema, record.message),
        last_updated: record.updatedAt.toISOString(),
      })),
    ),
    ...list(
      "dynamic_listeners",
      [...names].map((name) => {
        const [current, next, refused] = [activeByName.get(name), warmingByName.get(name), rejectedByName.get(name)];
        return {
          name,
          ...(current && { active_state: state(current) }),
          ...(next && { warming_state: state(next) }),
          ...(refused && { error_state: errorState(refused) }),
        };
      }),
    ),
  };
}

function routesDump(server: ProxyServer, passes: NameFilter): JsonObject {
  const { active, warming } = server.listeners.list();
  const statics = [...active, ...warming].flatMap((record) =>
    findReferences(ListenerSchema, record.message)
      .inlineRoutes.filter(({ name }) => passes(name))
      .map((route: RouteConfiguration) => ({
        route_config: anyJson(RouteConfigurationSchema, route),
        last_updated: record.updatedAt.toISOString(),
      })),
  );
  const dynamics = server.routes
    .list()
    .filter(({ name }) => passes(name))
    .map((resource) => ({
      ...versionOf(resource),
      route_config: anyJson(RouteConfigurationSchema, resource.decode()),
      last_updated: resource.updatedAt.toISOString(),
    }));
  return { "@type": `${prefix}RoutesConfigDump`, ...list("static_route_configs", statics), ...list("dynamic_route_configs", dynamics) };
}

function secretsDump(server: ProxyServer, passes: NameFilter): JsonObject {
  const statics = server.staticSecrets
    .filter(({ name }) => passes(name))
    .map((secret) => ({
      name: secret.name,
      secret: anyJson(SecretSchema, secret),
    }));
  const dynamics = server.secrets
    .list()
    .filter(({ name }) => passes(name))
    .map((resource) => ({
      name: resource.name,
      ...versionOf(resource),
      last_updated: resource.updatedAt.toISOString(),
      secret: anyJson(SecretSchema, resource.decode()),
    }));
  const missing = server.secrets
    .missing()
    .filter(passes)
    .map((name) => ({
      name,
      version_info: "uninitialized",
      secret: { "@type": `type.googleapis.com/${SecretSchema.typeName}`, name },
    }));
  return {
    "@type": `${prefix}SecretsConfigDump`,
    ...list("static_secrets", statics),
    ...list("dynamic_active_secrets", dynamics),
    ...list("dynamic_warming_secrets", missing),
  };
}

function errorState({ details, version, attemptedAt }: RejectedRecord): JsonObject {
  return {
    last_update_attempt: attemptedAt.toISOString(),
    details,
    ...(version !== "" && { version_info: version }),
  };
}

function versionOf({ version }: { readonly version: string }): { version_info?: string } {
  return version === "" ? {} : { version_info: version };
}

/** Empty lists are defaults, which JSON leaves out. */
function list(name: string, items: readonly JsonValue[]): JsonObject {
  return items.length > 0 ? { [name]: items as JsonValue[] } : {};
}
