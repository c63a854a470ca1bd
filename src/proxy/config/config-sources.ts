/**
 * From a ConfigSource to something that delivers: the one ADS stream, a gRPC stream of its own, or a file.
 *
 * Equal sources share a stream per type. Streams are opened when first wanted.
 */

import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { XdsClient, type XdsHandler, type XdsSubscription } from "../../ads/client.ts";
import { openXdsChannel, type XdsChannel } from "../../ads/client-stream.ts";
import { ConfigError } from "../../api/config-error.ts";
import { checkConstraints } from "../../api/envoy/constraints.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Node } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type ApiConfigSource, ApiConfigSource_ApiType, type ConfigSource } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import { type TypeUrl, typeUrls } from "../../api/type-urls.ts";
import type { Log } from "../../lib/log.ts";
import { durationMs } from "../duration.ts";
import type { StatsReader } from "../stats/stats-reader.ts";
import type { StatsStore } from "../stats/store.ts";
import { FileSubscription } from "./file-subscription.ts";
import { grpcTarget } from "./grpc-target.ts";
import { unknownFieldsOf } from "./unknown-fields.ts";

/** Envoy's default; 0 waits for ever. */
const defaultFetchTimeoutMs = 15_000;

const services: Record<TypeUrl, readonly [service: string, verb: string]> = {
  [typeUrls.cds]: ["envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters"],
  [typeUrls.eds]: ["envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints"],
  [typeUrls.lds]: ["envoy.service.listener.v3.ListenerDiscoveryService", "Listeners"],
  [typeUrls.rds]: ["envoy.service.route.v3.RouteDiscoveryService", "Routes"],
  [typeUrls.sds]: ["envoy.service.secret.v3.SecretDiscoveryService", "Secrets"],
  [typeUrls.ecds]: ["envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"],
  // For the agent alone.
  [typeUrls.nds]: ["", ""],
  [typeUrls.pcds]: ["", ""],
};

const adsMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService";

export interface ConfigSourcesOptions {
  readonly node: Node;
  readonly adsConfig: ApiConfigSource | undefined;
  /** Static clusters of the bootstrap, by name. */
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly log: Log;
  readonly stats: StatsStore;
  readonly texts: Pick<StatsReader, "setText">;
  /** What to do about fields that the protos don't have; counted in server.dynamic_unknown_fields by default. */
  readonly unknownFields?: "ignore" | "count" | "reject";
  /** Overrides for tests. */
  readonly backoffBaseMs?: number;
}

export class ConfigSources implements AsyncDisposable {
  #options: ConfigSourcesOptions;
  #channels = new Map<string, XdsChannel>();
  #clients = new Map<string, XdsClient>();
  #files = new Set<FileSubscription>();
  #onStreamEnd = new Map<string, () => void>();

  constructor(options: ConfigSourcesOptions) {
    this.#options = options;
  }

  get hasAds(): boolean {
    return this.#options.adsConfig !== undefined;
  }

  get isAdsDelta(): boolean {
    const { adsConfig } = this.#options;
    return adsConfig !== undefined && isDelta(adsConfig);
  }

  /** Equal keys deliver from the same place. Absent means the stream that the referring resource came by, which is ADS. */
  key(source: ConfigSource | undefined): string {
    const specifier = source?.configSourceSpecifier;
    switch (specifier?.case) {
      case undefined:
      case "ads":
      case "self":
        return "ads";
      case "path":
        return `path:${specifier.value}`;
      case "pathConfigSource":
        return `path:${specifier.value.path}`;
      case "apiConfigSource":
        return `grpc:${clusterOf(specifier.value)}:${isDelta(specifier.value)}`;
      default:
        return specifier satisfies never;
    }
  }

  /** Throws ConfigError for a resource that breaks the protos' constraints; counts its unknown fields. */
  check(schema: DescMessage, message: Message): void {
    const { unknownFields = "count", stats } = this.#options;
    if (unknownFields === "count") {
      const unknown = unknownFieldsOf(schema, message);
      if (unknown.length > 0) stats.add(stats.counter("server.dynamic_unknown_fields"), unknown.length);
    }
    const violation = checkConstraints(schema, message, envoyTypes);
    if (violation) throw new ConfigError(`Proto constraint validation failed (${violation.message})`);
  }

  /** Hears when the stream that a type comes by has ended; one listener a type. */
  onStreamEnd(typeUrl: TypeUrl, listener: () => void): void {
    this.#onStreamEnd.set(typeUrl, listener);
  }

  /** Throws ConfigError when the source can't be. */
  subscribe(typeUrl: TypeUrl, source: ConfigSource | undefined, isWildcard: boolean, handler: XdsHandler): XdsSubscription {
    return this.#subscribe(
      typeUrl,
      source,
      isWildcard,
      this.#options.unknownFields === "reject" ? refusingUnknownFields(handler) : handler,
    );
  }

  #subscribe(typeUrl: TypeUrl, source: ConfigSource | undefined, isWildcard: boolean, handler: XdsHandler): XdsSubscription {
    const specifier = source?.configSourceSpecifier;
    switch (specifier?.case) {
      case "path":
        return this.#subscribeFile(specifier.value, typeUrl, handler);
      case "pathConfigSource":
        return this.#subscribeFile(specifier.value.path, typeUrl, handler);
      case "apiConfigSource": {
        const isAggregated = /AGGREGATED/.test(ApiConfigSource_ApiType[specifier.value.apiType] ?? "");
        const method = isAggregated ? adsMethod : "";
        return this.#client(specifier.value, method, isAggregated ? "" : typeUrl).subscribe(typeUrl, isWildcard, handler);
      }
      default: {
        const { adsConfig } = this.#options;
        if (!adsConfig) throw new ConfigError("ADS is used, but dynamic_resources.ads_config is not configured");
        return this.#client(adsConfig, adsMethod, "").subscribe(typeUrl, isWildcard, handler);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#clients.values()].map((client) => client[Symbol.asyncDispose]()));
    for (const channel of this.#channels.values()) channel[Symbol.dispose]();
    for (const file of this.#files) file.close();
  }

  #subscribeFile(path: string, typeUrl: TypeUrl, handler: XdsHandler): XdsSubscription {
    const file = new FileSubscription({ path, typeUrl, handler, log: this.#options.log.scope("config") });
    this.#files.add(file);
    return file;
  }

  #client(config: ApiConfigSource, aggregated: string, typeUrl: TypeUrl | ""): XdsClient {
    const name = clusterOf(config);
    const delta = isDelta(config);
    const key = `${name} ${delta} ${aggregated} ${typeUrl}`;
    const known = this.#clients.get(key);
    if (known) return known;
    const [service, verb] = typeUrl === "" ? [aggregated.slice(1), "AggregatedResources"] : services[typeUrl];
    const { log, node, stats, texts, backoffBaseMs } = this.#options;
    const isAds = typeUrl === "";
    const connected = stats.gauge("control_plane.connected_state");
    stats.gauge("control_plane.pending_requests");
    stats.counter("control_plane.rate_limit_enforced");
    const client = new XdsClient({
      open: this.#channel(name, config).stream(`/${service}/${delta ? "Delta" : "Stream"}${verb}`, delta),
      isDelta: delta,
      node,
      nodeOnFirstMessageOnly: config.setNodeOnFirstMessageOnly,
      log: log.scope("config"),
      onStreamEnd: (type) => this.#onStreamEnd.get(type)?.(),
      ...(backoffBaseMs !== undefined && { backoffBaseMs }),
      onConnected: (isConnected) => {
        if (isAds) stats.set(connected, isConnected ? 1 : 0);
      },
      onControlPlane: (identifier) => {
        if (isAds) texts.setText("control_plane.identifier", identifier);
      },
    });
    this.#clients.set(key, client);
    return client;
  }

  #channel(name: string, config: ApiConfigSource): XdsChannel {
    const known = this.#channels.get(name);
    if (known) return known;
    const cluster = this.#options.clusters.get(name);
    if (!cluster) {
      throw new ConfigError(`Unknown gRPC client cluster '${name}': it must be a static cluster of the bootstrap`);
    }
    const service = config.grpcServices[0];
    const envoyGrpc = service?.targetSpecifier.case === "envoyGrpc" ? service.targetSpecifier.value : undefined;
    const channel = openXdsChannel({
      ...grpcTarget(cluster),
      authority: envoyGrpc?.authority || name.replaceAll(/[^A-Za-z0-9.:_-]/g, "_"),
      metadata: service?.initialMetadata ?? [],
    });
    this.#channels.set(name, channel);
    return channel;
  }
}

/** As Envoy does, one unknown field makes the whole response bad. */
function refusingUnknownFields(handler: XdsHandler): XdsHandler {
  return (update) => {
    for (const { content } of update.resources) {
      const schema = envoyTypes.getMessage(content.typeUrl.replace(/^.*\//, ""));
      const unknown = schema === undefined ? [] : unknownFieldsOf(schema, fromBinary(schema, content.value));
      if (unknown.length > 0) return Promise.resolve(`Protobuf message (${unknown[0]!}) has unknown fields`);
    }
    return handler(update);
  };
}

export function fetchTimeoutMs(source: ConfigSource | undefined): number {
  return durationMs(source?.initialFetchTimeout, defaultFetchTimeoutMs);
}

function clusterOf(config: ApiConfigSource): string {
  const type = ApiConfigSource_ApiType[config.apiType] ?? String(config.apiType);
  if (!type.includes("GRPC")) throw new ConfigError(`ApiConfigSource of type ${type} is not supported: GRPC and DELTA_GRPC are`);
  const specifier = config.grpcServices[0]?.targetSpecifier;
  if (specifier?.case !== "envoyGrpc") throw new ConfigError("ApiConfigSource: grpc_services needs one envoy_grpc with a cluster_name");
  return specifier.value.clusterName;
}

function isDelta(config: ApiConfigSource): boolean {
  return (ApiConfigSource_ApiType[config.apiType] ?? "").includes("DELTA");
}
