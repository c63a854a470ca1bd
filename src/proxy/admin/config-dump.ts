/**
 * /config_dump: what is in force, what warms, what was refused, in the messages of envoy.admin.v3 as JSON.
 *
 * `resource` picks one list of one of these messages, `mask` some of their fields, `name_regex` the resources by name,
 * `include_eds` adds the endpoints. Private keys never leave.
 */
import type { DescMessage, JsonObject, MessageShape } from "@bufbuild/protobuf";
import { RE2JS } from "re2js";
import { redactJson } from "../../api/envoy/redact.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { writeJson } from "../../api/envoy/write-json.ts";
import { type Bootstrap, BootstrapSchema } from "../../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type ClusterRecord, decodeCluster, type RejectedRecord } from "../config/cluster-record.ts";
import type { ListenerRecord } from "../config/listener-manager.ts";
import { findReferences } from "../config/references.ts";
import type { ProxyServer } from "../server.ts";
import { type AdminHandler, type AdminResponse, isSet } from "./admin-handler.ts";
import { endpointsDump } from "./endpoints-dump.ts";
import { maskJson } from "./field-mask.ts";
import { jsonPieces, LazyList, LazyObject } from "./json-pieces.ts";
import { regexReason } from "./stats.ts";
import { collected } from "./write-page.ts";

const prefix = "type.googleapis.com/envoy.admin.v3.";

/** One of envoy.admin.v3's messages; its lists may be long. */
interface Dump {
  readonly "@type": string;
  readonly [field: string]: string | LazyObject | LazyList<JsonObject>;
}

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
    const dumps: readonly Dump[] = [
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
    return answer(dumps.map((dump) => new LazyObject(dump)));
  },
};

function answer(configs: Iterable<JsonObject | LazyObject>): AdminResponse {
  return { type: "json", body: jsonPieces(new LazyObject({ configs: new LazyList(configs) })) };
}

async function oneResource(dumps: readonly Dump[], resource: string, mask: string | null): Promise<AdminResponse> {
  for (const dump of dumps) {
    const field = descOf(dump)?.fields.find((candidate) => candidate.name === resource);
    if (!field) continue;
    if (field.fieldKind !== "list" || !field.message) {
      return { status: 400, type: "plain", body: `${resource} is not a repeated field. Use ?mask=${resource} to get only this field` };
    }
    const { message } = field;
    const items = withType(`type.googleapis.com/${message.typeName}`, dump[resource]);
    if (mask === null) return answer(items);
    const all = await collected(items);
    const kept = all.flatMap((item) => present(maskJson(message, item, mask.split(","))));
    if (all.length > 0 && kept.length === 0)
      return { status: 400, type: "plain", body: `FieldMask ${mask} could not be successfully applied to any configs.` };
    return answer(kept);
  }
  return { status: 404, type: "plain", body: `${resource} not found in config dump` };
}

function* withType(type: string, list: Dump[string] | undefined): Generator<JsonObject, void> {
  if (list instanceof LazyList) for (const item of list.items) yield { "@type": type, ...item };
}

async function masked(dumps: readonly Dump[], mask: string): Promise<AdminResponse> {
  const paths = mask.split(",");
  const kept: JsonObject[] = [];
  for (const dump of dumps) {
    const desc = descOf(dump);
    if (desc) kept.push(...present(maskJson(desc, await whole(dump, paths), paths)));
  }
  if (kept.length === 0) return { status: 400, type: "plain", body: `FieldMask ${mask} could not be successfully applied to any configs.` };
  return answer(kept.map(inPieces));
}

function inPieces(dump: JsonObject): LazyObject {
  const fields = Object.entries(dump).map(([name, value]) => [
    name,
    Array.isArray(value) && value.length > 0 ? new LazyList(value) : value,
  ]);
  return new LazyObject(Object.fromEntries(fields) as LazyObject["fields"]);
}

/** With those lists that a mask asks for. */
async function whole(dump: Dump, paths: readonly string[]): Promise<JsonObject> {
  const wanted = new Set(paths.map((path) => path.trim().split(".")[0]));
  const fields: JsonObject = {};
  for (const [name, value] of Object.entries(dump)) {
    if (typeof value === "string") fields[name] = value;
    else if (!wanted.has(name)) continue;
    else if (value instanceof LazyObject) fields[name] = JSON.parse((await collected(jsonPieces(value))).join("")) as JsonObject;
    else {
      const items = await collected(value.items);
      if (items.length > 0) fields[name] = items;
    }
  }
  return fields;
}

function present(json: JsonObject | undefined): JsonObject[] {
  return json ? [json] : [];
}

function descOf(dump: Dump): DescMessage | undefined {
  return envoyTypes.getMessage(String(dump["@type"]).slice("type.googleapis.com/".length));
}

/** A resource as an Any: its type, then its fields, without secrets. */
export function anyJson<S extends DescMessage>(schema: S, message: MessageShape<S>): JsonObject {
  return { "@type": `type.googleapis.com/${schema.typeName}`, ...shown(schema, message) };
}

function shown<S extends DescMessage>(schema: S, message: MessageShape<S>): JsonObject {
  return redactJson(schema, writeJson(schema, message), envoyTypes);
}

function bootstrapDump(server: ProxyServer): Dump {
  return {
    "@type": `${prefix}BootstrapConfigDump`,
    bootstrap: bootstrapJson(server.bootstrap),
    last_updated: server.startedAt.toISOString(),
  };
}

/** The bootstrap may be all that there is, with thousands of clusters. */
function bootstrapJson(bootstrap: Bootstrap): LazyObject {
  const { staticResources } = bootstrap;
  const rest = staticResources && { ...bootstrap, staticResources: { ...staticResources, listeners: [], clusters: [] } };
  const fields = redactJson(BootstrapSchema, writeJson(BootstrapSchema, rest ?? bootstrap), envoyTypes);
  if (!staticResources) return new LazyObject(fields);
  const { listeners, clusters } = staticResources;
  const parts = new LazyObject({
    listeners: lazy(listeners, (listener) => shown(ListenerSchema, listener)),
    clusters: lazy(clusters, (cluster) => shown(ClusterSchema, cluster)),
    ...(fields.static_resources as JsonObject),
  });
  return new LazyObject({ ...fields, static_resources: parts });
}

function clustersDump(server: ProxyServer, passes: NameFilter): Dump {
  const { active, warming, rejected } = server.clusters.list();
  const dynamic = (record: ClusterRecord) => ({
    ...versionOf(record),
    cluster: anyJson(ClusterSchema, decodeCluster(record)),
    last_updated: record.updatedAt.toISOString(),
  });
  const named = active.filter(({ name }) => passes(name));
  return {
    "@type": `${prefix}ClustersConfigDump`,
    ...(server.clusters.versionInfo !== "" && { version_info: server.clusters.versionInfo }),
    static_clusters: lazy(
      named.filter(({ isStatic }) => isStatic),
      (record) => ({ cluster: anyJson(ClusterSchema, decodeCluster(record)), last_updated: record.updatedAt.toISOString() }),
    ),
    dynamic_active_clusters: lazy(
      named.filter(({ isStatic }) => !isStatic),
      dynamic,
    ),
    dynamic_warming_clusters: lazy(
      [
        ...warming.filter(({ name }) => passes(name)).map((record) => () => dynamic(record)),
        ...rejected.filter(({ name }) => passes(name)).map((record) => () => ({ error_state: errorState(record) })),
      ],
      (make) => make(),
    ),
  };
}

function listenersDump(server: ProxyServer, passes: NameFilter): Dump {
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
    static_listeners: lazy(statics, (record) => ({
      listener: anyJson(ListenerSchema, record.message),
      last_updated: record.updatedAt.toISOString(),
    })),
    dynamic_listeners: lazy([...names], (name) => {
      const [current, next, refused] = [activeByName.get(name), warmingByName.get(name), rejectedByName.get(name)];
      return {
        name,
        ...(current && { active_state: state(current) }),
        ...(next && { warming_state: state(next) }),
        ...(refused && { error_state: errorState(refused) }),
      };
    }),
  };
}

function routesDump(server: ProxyServer, passes: NameFilter): Dump {
  const { active, warming } = server.listeners.list();
  const inline = function* (): Generator<JsonObject, void> {
    for (const record of [...active, ...warming]) {
      for (const route of findReferences(ListenerSchema, record.message).inlineRoutes) {
        if (passes(route.name))
          yield { route_config: anyJson(RouteConfigurationSchema, route), last_updated: record.updatedAt.toISOString() };
      }
    }
  };
  const dynamics = server.routes.list().filter(({ name }) => passes(name));
  return {
    "@type": `${prefix}RoutesConfigDump`,
    static_route_configs: new LazyList(inline()),
    dynamic_route_configs: lazy(dynamics, (resource) => ({
      ...versionOf(resource),
      route_config: anyJson(RouteConfigurationSchema, resource.decode()),
      last_updated: resource.updatedAt.toISOString(),
    })),
  };
}

function secretsDump(server: ProxyServer, passes: NameFilter): Dump {
  const named = ({ name }: { readonly name: string }) => passes(name);
  return {
    "@type": `${prefix}SecretsConfigDump`,
    static_secrets: lazy(server.staticSecrets.filter(named), (secret) => ({ name: secret.name, secret: anyJson(SecretSchema, secret) })),
    dynamic_active_secrets: lazy(server.secrets.list().filter(named), (resource) => ({
      name: resource.name,
      ...versionOf(resource),
      last_updated: resource.updatedAt.toISOString(),
      secret: anyJson(SecretSchema, resource.decode()),
    })),
    dynamic_warming_secrets: lazy(server.secrets.missing().filter(passes), (name) => ({
      name,
      version_info: "uninitialized",
      secret: { "@type": `type.googleapis.com/${SecretSchema.typeName}`, name },
    })),
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

function lazy<T>(of: readonly T[], json: (each: T) => JsonObject): LazyList<JsonObject> {
  return new LazyList(
    (function* () {
      for (const each of of) yield json(each);
    })(),
  );
}
