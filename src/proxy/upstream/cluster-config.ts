/** envoy.config.cluster.v3.Cluster, checked and with defaults filled in. Opens nothing; usable in any thread. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import { resolveTypedStruct } from "../../api/envoy/typed-struct.ts";
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type Cluster as ClusterMessage,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions } from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import { HttpProtocolOptionsSchema } from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { MetadataExchangeSchema } from "../../api/gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { durationMs } from "../duration.ts";
import { compileErrorMatcher } from "../health/error-matcher.ts";
import { compileHealthChecks, type HealthCheckConfig } from "../health/health-check-config.ts";
import { compileOutlierDetection, type OutlierConfig } from "../health/outlier-config.ts";
import { compileHttp2Options, type Http2Options } from "../http2/options.ts";
import { type PeerExchange, peerExchange } from "../telemetry/peer-exchange.ts";
import { compileThresholds, type Thresholds } from "./circuit-breakers.ts";
import { compileLoadBalancing, type LoadBalancing } from "./load-balancer-policy.ts";
import { compileMeshMetadata, type MeshMetadata } from "./mesh-metadata.ts";
import { compileTransportSockets, type TransportSockets } from "./transport-socket.ts";

export interface ClusterConfig extends LoadBalancing {
  readonly name: string;
  /** `alt_stat_name`, or the name. */
  readonly statName: string;
  readonly isOriginalDestination: boolean;
  /** Header that names the destination in an ORIGINAL_DST cluster, "" when the connection alone does. */
  readonly originalDestinationHeader: string;
  readonly originalDestinationPort: number;
  /** 5 s by default; covers the TLS handshake. */
  readonly connectTimeoutMs: number;
  readonly bufferLimitBytes: number;
  readonly panicThresholdPercent: number;
  readonly thresholds: { readonly default: Thresholds; readonly high: Thresholds };
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  /** 1 h by default; 0: none. */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxStreamDurationMs: number;
  readonly maxResponseHeaders: number;
  readonly enablesTrailers: boolean;
  readonly properCaseHeaders: boolean;
  readonly allowsChunkedLength: boolean;
  /** `downstream`: as the client's; `auto`: what TLS agrees on. */
  readonly protocol: "http1" | "http2" | "downstream" | "auto";
  readonly http2: Http2Options;
  readonly autoSni: boolean;
  readonly autoSanValidation: boolean;
  readonly autoSniHeader: string;
  readonly transportSockets: TransportSockets;
  readonly keepAlive: { readonly idleMs: number } | null;
  /** Of which connections come: of the endpoint's family, or else the first. Empty: of whichever the system chooses. */
  readonly bindAddresses: readonly string[];
  readonly closesOnHealthFailure: boolean;
  readonly outlier: OutlierConfig | null;
  readonly healthChecks: readonly HealthCheckConfig[];
  readonly metadata: ClusterMessage["metadata"];
  readonly mesh: MeshMetadata;
  /** What connections without HTTP say first to endpoints that agree on it. */
  readonly peerExchange: PeerExchange | null;
}

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

export function compileCluster(message: ClusterMessage, context: CompileContext): ClusterConfig {
  if (message.name === "") throw new ConfigError("Cluster: name: value length must be at least 1 characters");
  const isOriginalDestination =
    message.clusterDiscoveryType.case === "type" && message.clusterDiscoveryType.value === Cluster_DiscoveryType.ORIGINAL_DST;
  if (message.clusterDiscoveryType.case === "clusterType") {
    const { name, typedConfig } = message.clusterDiscoveryType.value;
    throw new ConfigError(
      `Didn't find a registered cluster factory implementation for name: '${name}' with type URL: '${typedConfig?.typeUrl.replace(/^.*\//, "") ?? ""}'`,
    );
  }
  if (isOriginalDestination !== (message.lbPolicy === Cluster_LbPolicy.CLUSTER_PROVIDED)) {
    throw new ConfigError(
      isOriginalDestination
        ? `cluster: LB policy ${Cluster_LbPolicy[message.lbPolicy]} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'`
        : "cluster: LB policy CLUSTER_PROVIDED is not valid for this Cluster type",
    );
  }
  const connectTimeoutMs = durationMs(message.connectTimeout, 5000);
  if (connectTimeoutMs <= 0) throw new ConfigError("Cluster: connect_timeout: value must be greater than 0s");
  const any = message.typedExtensionProtocolOptions[httpOptionsKey];
  const http = any === undefined ? undefined : anyUnpack(any, HttpProtocolOptionsSchema);
  if (any !== undefined && http === undefined) throw new ConfigError(`Unable to unpack as ${httpOptionsKey}: ${any.typeUrl}`);
  const common: HttpProtocolOptions | undefined = http?.commonHttpProtocolOptions ?? message.commonHttpProtocolOptions;
  const { protocol, http1, http2 } = chooseProtocol(http, message);
  const upstream = http?.upstreamHttpProtocolOptions ?? message.upstreamHttpProtocolOptions;
  const originalDst = message.lbConfig.case === "originalDstLbConfig" ? message.lbConfig.value : undefined;
  const errorMatcher = http?.outlierDetection?.errorMatcher;
  const keepAlive = message.upstreamConnectionOptions?.tcpKeepalive;
  return {
    name: message.name,
    statName: message.altStatName || message.name,
    isOriginalDestination,
    originalDestinationHeader: originalDst?.useHttpHeader ? originalDst.httpHeaderName.toLowerCase() || "x-envoy-original-dst-host" : "",
    originalDestinationPort: originalDst?.upstreamPortOverride ?? 0,
    connectTimeoutMs,
    bufferLimitBytes: message.perConnectionBufferLimitBytes ?? 1024 * 1024,
    ...compileLoadBalancing(message),
    panicThresholdPercent: message.commonLbConfig?.healthyPanicThreshold?.value ?? 50,
    thresholds: {
      default: compileThresholds(message.circuitBreakers, "default"),
      high: compileThresholds(message.circuitBreakers, "high"),
    },
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? message.maxRequestsPerConnection ?? 0,
    idleTimeoutMs: durationMs(common?.idleTimeout, 3_600_000),
    maxConnectionDurationMs: durationMs(common?.maxConnectionDuration, 0),
    maxStreamDurationMs: durationMs(common?.maxStreamDuration, 0),
    maxResponseHeaders: common?.maxHeadersCount ?? 100,
    enablesTrailers: http1?.enableTrailers ?? false,
    properCaseHeaders: http1?.headerKeyFormat?.headerFormat.case === "properCaseWords",
    allowsChunkedLength: http1?.allowChunkedLength ?? false,
    protocol,
    http2: compileHttp2Options(http2, { maxConcurrentStreams: 1024, bearsInvalidMessages: false }),
    autoSni: upstream?.autoSni ?? false,
    autoSanValidation: upstream?.autoSanValidation ?? false,
    autoSniHeader: upstream?.overrideAutoSniHeader.toLowerCase() ?? "",
    transportSockets: compileTransportSockets(message, context),
    keepAlive: keepAlive === undefined ? null : { idleMs: (keepAlive.keepaliveTime ?? 7200) * 1000 },
    bindAddresses: bindAddresses(message),
    closesOnHealthFailure: message.closeConnectionsOnHostHealthFailure,
    outlier: compileOutlierDetection(message.outlierDetection, errorMatcher === undefined ? null : compileErrorMatcher(errorMatcher)),
    healthChecks: compileHealthChecks(message, protocol !== "http1"),
    metadata: message.metadata,
    mesh: compileMeshMetadata(message),
    peerExchange: compileFilters(message, context),
  };
}

/** One of each family at most. Throws ConfigError in Envoy's words. */
function bindAddresses({ name, upstreamBindConfig: config }: ClusterMessage): readonly string[] {
  if (!config?.sourceAddress) return [];
  const [old, own] = [config.additionalSourceAddresses, config.extraSourceAddresses];
  const fields = "extra_source_addresses/additional_source_addresses";
  const where = `${name === "" ? "Bootstrap" : `Cluster ${name}`}'s upstream binding config`;
  const problem = (text: string) => new ConfigError(`${where} has ${text}`);
  if (old.length > 0 && own.length > 0)
    throw new ConfigError(`Can't specify both \`extra_source_addresses\` and \`additional_source_addresses\` in the ${where}`);
  if (old.length > 1 || own.length > 1)
    throw problem(
      `more than one extra/additional source addresses. Only one extra/additional source can be supported in BindConfig's ${fields} field`,
    );
  const first = config.sourceAddress.address;
  const [second] = [...own.flatMap(({ address }) => address ?? []), ...old].map(({ address }) => address);
  if (second === undefined) return [first];
  if (first.includes(":") === second.includes(":"))
    throw problem(
      `two same IP version source addresses. Only two different IP version source addresses can be supported in BindConfig's source_address and ${fields} fields`,
    );
  return [first, second];
}

/** `filters`, of connections to endpoints: there is one kind. */
function compileFilters({ filters }: ClusterMessage, context: CompileContext): PeerExchange | null {
  let exchange: PeerExchange | null = null;
  for (const { name, typedConfig } of filters) {
    const any = typedConfig && resolveTypedStruct(typedConfig);
    const config = any && anyUnpack(any, MetadataExchangeSchema);
    if (config === undefined) {
      const typeName = any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) ?? "";
      throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
    }
    exchange = peerExchange(config, context);
  }
  return exchange;
}

interface ProtocolChoice {
  readonly protocol: ClusterConfig["protocol"];
  readonly http1?: Http1ProtocolOptions | undefined;
  readonly http2?: Http2ProtocolOptions | undefined;
}

type HttpOptions = NonNullable<ReturnType<typeof anyUnpack<typeof HttpProtocolOptionsSchema>>>;

function chooseProtocol(http: HttpOptions | undefined, message: ClusterMessage): ProtocolChoice {
  const options = http?.upstreamProtocolOptions;
  switch (options?.case) {
    case "explicitHttpConfig": {
      const explicit = options.value.protocolConfig;
      if (explicit.case === "http2ProtocolOptions") return { protocol: "http2", http2: explicit.value };
      if (explicit.case === "http3ProtocolOptions") throw new ConfigError(`cluster ${message.name}: HTTP/3 is not supported by this proxy`);
      return { protocol: "http1", http1: explicit.value };
    }
    case "useDownstreamProtocolConfig":
      return { protocol: "downstream", http1: options.value.httpProtocolOptions, http2: options.value.http2ProtocolOptions };
    case "autoConfig":
      return { protocol: "auto", http1: options.value.httpProtocolOptions, http2: options.value.http2ProtocolOptions };
    default:
      return {
        protocol: message.http2ProtocolOptions === undefined ? "http1" : "http2",
        http1: message.httpProtocolOptions,
        http2: message.http2ProtocolOptions,
      };
  }
}
