/**
 * Envoy's HTTP connection manager: everything that its configuration says, decided once, and what is counted for it.
 * The road of a request: http1-server.ts (bytes) -> request-preparation.ts (checks, trust headers) -> http-stream.ts (filters).
 */
import { BlockList, isIP, isIPv6 } from "node:net";
import { ConfigError } from "../../api/config-error.ts";
import { HttpProtocolOptions_HeadersWithUnderscoresAction } from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ForwardClientCertDetails,
  HttpConnectionManager_PathWithEscapedSlashesAction,
  HttpConnectionManager_ServerHeaderTransformation,
} from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { type AccessLog, compileAccessLog } from "../accesslog/access-log.ts";
import { durationMs } from "../duration.ts";
import { compileHttpFilters } from "../filters/http/index.ts";
import { Http2CodecStats } from "../http2/codec-stats.ts";
import { Http2Server } from "../http2/http2-server.ts";
import { compileHttp2Options, type Http2Options } from "../http2/options.ts";
import type { DownstreamConnection } from "../listener/downstream-connection.ts";
import type { NetworkFilterContext, TerminalNetworkFilter } from "../listener/network-filter.ts";
import { localAddress } from "../local-address.ts";
import { compileRouteConfiguration, type RouteTable } from "../router/route-table.ts";
import type { Cluster } from "../upstream/cluster.ts";
import type { ClusterLookup } from "../upstream/cluster-set.ts";
import { ConnectionManagerStats } from "./connection-manager-stats.ts";
import type { HttpFilter, TerminalFilter } from "./http-filter.ts";
import type { HttpStream } from "./http-stream.ts";
import type { Http1ParserOptions } from "./http1-parser.ts";
import { Http1Server } from "./http1-server.ts";
import { compileLocalReplies, type LocalReplies } from "./local-reply.ts";
import type { EscapedSlashesAction, PathOptions } from "./path-normalization.ts";

export interface ClientCertificateForwarding {
  readonly mode: "sanitize" | "forwardOnly" | "appendForward" | "sanitizeSet" | "alwaysForwardOnly";
  readonly subject: boolean;
  readonly cert: boolean;
  readonly chain: boolean;
  readonly dns: boolean;
  readonly uri: boolean;
}

const forwardingModes: Record<HttpConnectionManager_ForwardClientCertDetails, ClientCertificateForwarding["mode"]> = {
  [HttpConnectionManager_ForwardClientCertDetails.SANITIZE]: "sanitize",
  [HttpConnectionManager_ForwardClientCertDetails.FORWARD_ONLY]: "forwardOnly",
  [HttpConnectionManager_ForwardClientCertDetails.APPEND_FORWARD]: "appendForward",
  [HttpConnectionManager_ForwardClientCertDetails.SANITIZE_SET]: "sanitizeSet",
  [HttpConnectionManager_ForwardClientCertDetails.ALWAYS_FORWARD_ONLY]: "alwaysForwardOnly",
};

const slashActions: Record<HttpConnectionManager_PathWithEscapedSlashesAction, EscapedSlashesAction> = {
  [HttpConnectionManager_PathWithEscapedSlashesAction.IMPLEMENTATION_SPECIFIC_DEFAULT]: "keep",
  [HttpConnectionManager_PathWithEscapedSlashesAction.KEEP_UNCHANGED]: "keep",
  [HttpConnectionManager_PathWithEscapedSlashesAction.REJECT_REQUEST]: "reject",
  [HttpConnectionManager_PathWithEscapedSlashesAction.UNESCAPE_AND_REDIRECT]: "unescapeAndRedirect",
  [HttpConnectionManager_PathWithEscapedSlashesAction.UNESCAPE_AND_FORWARD]: "unescapeAndForward",
};

const serverTransformations: Record<HttpConnectionManager_ServerHeaderTransformation, "overwrite" | "appendIfAbsent" | "passThrough"> = {
  [HttpConnectionManager_ServerHeaderTransformation.OVERWRITE]: "overwrite",
  [HttpConnectionManager_ServerHeaderTransformation.APPEND_IF_ABSENT]: "appendIfAbsent",
  [HttpConnectionManager_ServerHeaderTransformation.PASS_THROUGH]: "passThrough",
};

const underscoreActions: Record<HttpProtocolOptions_HeadersWithUnderscoresAction, Http1ParserOptions["underscores"]> = {
  [HttpProtocolOptions_HeadersWithUnderscoresAction.ALLOW]: "allow",
  [HttpProtocolOptions_HeadersWithUnderscoresAction.REJECT_REQUEST]: "reject",
  [HttpProtocolOptions_HeadersWithUnderscoresAction.DROP_HEADER]: "drop",
};

export class ConnectionManager implements TerminalNetworkFilter {
  readonly name: string;
  readonly isTerminal = true;
  readonly stats: ConnectionManagerStats;
  readonly filters: readonly HttpFilter[];
  readonly requestDataFilters: readonly HttpFilter[];
  readonly requestEndFilters: readonly HttpFilter[];
  readonly responseDataFilters: readonly HttpFilter[];
  readonly responseEndFilters: readonly HttpFilter[];
  readonly terminal: TerminalFilter;
  readonly accessLogs: readonly AccessLog[];
  readonly localReplies: LocalReplies | null;
  readonly parserOptions: Http1ParserOptions;
  /** auto: what the handshake has agreed on, or else the first bytes look like. */
  readonly codec: "auto" | "http1" | "http2";
  readonly http2: Http2Options;
  readonly #makeCodecStats: () => Http2CodecStats;
  #http2CodecStats: Http2CodecStats | null = null;
  readonly path: PathOptions;
  readonly serverName: string;
  readonly serverTransformation: "overwrite" | "appendIfAbsent" | "passThrough";
  readonly schemeOverwrite: string;
  readonly usesRemoteAddress: boolean;
  readonly trustedHops: number;
  readonly appendsXff: boolean;
  readonly appendsForwardedPort: boolean;
  readonly internalAddresses: BlockList | null;
  readonly localIp: string;
  readonly via: string;
  readonly generatesRequestId: boolean;
  readonly preservesExternalRequestId: boolean;
  readonly setsRequestIdInResponse: boolean;
  readonly userAgentCluster: string;
  readonly stripsMatchingPort: boolean;
  readonly stripsAnyPort: boolean;
  readonly stripsTrailingDot: boolean;
  readonly clientCertificates: ClientCertificateForwarding;
  /** Upgrade type in lower case -> enabled. */
  readonly upgrades: ReadonlyMap<string, boolean>;
  readonly acceptsHttp10: boolean;
  readonly defaultHost10: string;
  readonly allowsAbsoluteUrl: boolean;
  readonly sendsTrailers: boolean;
  readonly keepsConnectionOnInvalid: boolean;
  readonly properCaseHeaders: boolean;
  readonly proxies100Continue: boolean;
  readonly streamIdleTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly requestHeadersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxStreamDurationMs: number;
  readonly maxRequestsPerConnection: number;
  readonly drainTimeoutMs: number;
  readonly delayedCloseTimeoutMs: number;
  readonly bufferLimitBytes: number;
  readonly rdsName: string;
  readonly #inlineRoutes: RouteTable | null;
  readonly #routes: ReadonlyMap<string, RouteTable>;
  readonly #clusters: ClusterLookup;

  constructor(config: HttpConnectionManager, context: NetworkFilterContext, name: string) {
    this.name = name;
    if (config.statPrefix === "") throw new ConfigError("HttpConnectionManager: stat_prefix: value length must be at least 1 characters");
    this.stats = ConnectionManagerStats.of(context.stats, config.statPrefix, context.listenerStatPrefix);
    this.codec = codecOf(config.codecType);
    this.#makeCodecStats = () => new Http2CodecStats(context.stats, "");
    this.http2 = compileHttp2Options(config.http2ProtocolOptions, {
      maxConcurrentStreams: 1024,
      bearsInvalidMessages: config.streamErrorOnInvalidHttpMessage ?? false,
    });
    const { filters, terminal } = compileHttpFilters(config.httpFilters, {
      ...context,
      statPrefix: `http.${config.statPrefix}.`,
      slot: 0,
    });
    this.filters = filters;
    this.requestDataFilters = filters.filter((filter) => filter.onRequestData !== undefined);
    this.requestEndFilters = filters.filter((filter) => filter.onRequestEnd !== undefined);
    this.responseEndFilters = filters.filter((filter) => filter.onResponseEnd !== undefined);
    this.responseDataFilters = filters.filter((filter) => filter.onResponseData !== undefined);
    this.terminal = terminal;
    this.accessLogs = config.accessLog.map((log) => compileAccessLog(log, context.accessLog));
    this.localReplies = compileLocalReplies(config.localReplyConfig, context);
    this.#routes = context.routes;
    this.#clusters = context.clusters;
    this.#inlineRoutes = null;
    this.rdsName = "";
    switch (config.routeSpecifier.case) {
      case "routeConfig":
        this.#inlineRoutes = compileRouteConfiguration(config.routeSpecifier.value, context);
        break;
      case "rds":
        this.rdsName = config.routeSpecifier.value.routeConfigName;
        break;
      case "scopedRoutes":
        throw new ConfigError("scoped_routes is not supported by this proxy");
      default:
        throw new ConfigError("HttpConnectionManager: route_specifier: value is required");
    }
    const common = config.commonHttpProtocolOptions;
    const http1 = config.httpProtocolOptions;
    this.sendsTrailers = http1?.enableTrailers ?? false;
    this.parserOptions = {
      kind: "request",
      maxHeadBytes: (config.maxRequestHeadersKb ?? 60) * 1024,
      maxHeaders: common?.maxHeadersCount ?? 100,
      keepsTrailers: this.sendsTrailers,
      allowsChunkedLength: http1?.allowChunkedLength ?? false,
      allowsCustomMethods: http1?.allowCustomMethods ?? false,
      underscores: underscoreActions[common?.headersWithUnderscoresAction ?? HttpProtocolOptions_HeadersWithUnderscoresAction.ALLOW],
    };
    this.acceptsHttp10 = http1?.acceptHttp10 ?? false;
    this.defaultHost10 = http1?.defaultHostForHttp10 ?? "";
    this.allowsAbsoluteUrl = http1?.allowAbsoluteUrl ?? true;
    this.properCaseHeaders = http1?.headerKeyFormat?.headerFormat.case === "properCaseWords";
    this.keepsConnectionOnInvalid = http1?.overrideStreamErrorOnInvalidHttpMessage ?? config.streamErrorOnInvalidHttpMessage ?? false;
    this.proxies100Continue = config.proxy100Continue;
    this.path = {
      normalizes: config.normalizePath ?? false,
      mergesSlashes: config.mergeSlashes,
      escapedSlashes: slashActions[config.pathWithEscapedSlashesAction] ?? "keep",
    };
    this.serverName = config.serverName || "envoy";
    this.serverTransformation = serverTransformations[config.serverHeaderTransformation] ?? "overwrite";
    this.schemeOverwrite =
      config.schemeHeaderTransformation?.transformation.case === "schemeToOverwrite"
        ? config.schemeHeaderTransformation.transformation.value
        : "";
    this.usesRemoteAddress = config.useRemoteAddress ?? false;
    this.trustedHops = config.xffNumTrustedHops;
    this.appendsXff = !config.skipXffAppend;
    this.appendsForwardedPort = config.appendXForwardedPort;
    if (config.originalIpDetectionExtensions.length > 0) {
      throw new ConfigError("original_ip_detection_extensions is not supported by this proxy");
    }
    this.internalAddresses = compileInternalAddresses(config);
    this.localIp = localAddress();
    this.via = config.via;
    this.generatesRequestId = config.generateRequestId ?? true;
    this.preservesExternalRequestId = config.preserveExternalRequestId;
    this.setsRequestIdInResponse = config.alwaysSetRequestIdInResponse;
    this.userAgentCluster = config.addUserAgent ? context.nodeCluster : "";
    this.stripsMatchingPort = config.stripMatchingHostPort;
    this.stripsAnyPort = config.stripPortMode.case === "stripAnyHostPort" && config.stripPortMode.value;
    this.stripsTrailingDot = config.stripTrailingHostDot;
    const details = config.setCurrentClientCertDetails;
    this.clientCertificates = {
      mode: forwardingModes[config.forwardClientCertDetails] ?? "sanitize",
      subject: details?.subject ?? false,
      cert: details?.cert ?? false,
      chain: details?.chain ?? false,
      dns: details?.dns ?? false,
      uri: details?.uri ?? false,
    };
    this.upgrades = new Map(config.upgradeConfigs.map((upgrade) => [upgrade.upgradeType.toLowerCase(), upgrade.enabled ?? true]));
    this.streamIdleTimeoutMs = durationMs(config.streamIdleTimeout, 300_000);
    this.requestTimeoutMs = durationMs(config.requestTimeout, 0);
    this.requestHeadersTimeoutMs = durationMs(config.requestHeadersTimeout, 0);
    this.idleTimeoutMs = durationMs(common?.idleTimeout, 3_600_000);
    this.maxConnectionDurationMs = durationMs(common?.maxConnectionDuration, 0);
    this.maxStreamDurationMs = durationMs(common?.maxStreamDuration, 0);
    this.maxRequestsPerConnection = common?.maxRequestsPerConnection ?? 0;
    this.drainTimeoutMs = durationMs(config.drainTimeout, 5000);
    this.delayedCloseTimeoutMs = durationMs(config.delayedCloseTimeout, 1000);
    this.bufferLimitBytes = context.bufferLimitBytes;
  }

  /** The routes as they are now; null while RDS has not delivered them. Hot. */
  get routeTable(): RouteTable | null {
    return this.#inlineRoutes ?? this.#routes.get(this.rdsName) ?? null;
  }

  clusterOf(name: string): Cluster | undefined {
    return this.#clusters.get(name);
  }

  /** Made with the first connection that needs them. */
  get http2CodecStats(): Http2CodecStats {
    this.#http2CodecStats ??= this.#makeCodecStats();
    return this.#http2CodecStats;
  }

  onConnection(connection: DownstreamConnection): void {
    if (this.codec === "http2" || (this.codec === "auto" && connection.socket.applicationProtocol === "h2")) {
      new Http2Server(this, connection).start();
    } else new Http1Server(this, connection).start();
  }

  /** Counts and logs a stream that is over. Hot. */
  streamEnded(stream: HttpStream): void {
    const { store, at } = this.stats;
    const { info } = stream;
    store.values[at.downstream_rq_active]! -= 1;
    store.record(at.downstream_rq_time, Math.round(info.endTime - info.startTime));
    if (stream.responseHasStarted) this.stats.countResponse(info.responseCode);
    const logs = this.accessLogs;
    for (let i = 0; i < logs.length; i++) logs[i]!.write(info);
  }

  start(): Promise<void> | undefined {
    const waits = this.filters.map((filter) => filter.start?.()).filter((wait) => wait !== undefined);
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  dispose(): void {
    for (const filter of this.filters) filter.dispose?.();
    for (const log of this.accessLogs) log.close();
  }
}

function codecOf(type: HttpConnectionManager_CodecType): ConnectionManager["codec"] {
  switch (type) {
    case HttpConnectionManager_CodecType.AUTO:
      return "auto";
    case HttpConnectionManager_CodecType.HTTP1:
      return "http1";
    case HttpConnectionManager_CodecType.HTTP2:
      return "http2";
    default:
      throw new ConfigError("codec_type HTTP3 is not supported by this proxy");
  }
}

function compileInternalAddresses(config: HttpConnectionManager): BlockList | null {
  const ranges = config.internalAddressConfig?.cidrRanges ?? [];
  if (ranges.length === 0) return null;
  const list = new BlockList();
  for (const range of ranges) {
    if (isIP(range.addressPrefix) === 0) throw new ConfigError(`malformed IP address: ${range.addressPrefix}`);
    list.addSubnet(range.addressPrefix, range.prefixLen ?? 0, isIPv6(range.addressPrefix) ? "ipv6" : "ipv4");
  }
  return list;
}
