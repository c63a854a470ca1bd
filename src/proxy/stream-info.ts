/**
 * What is known of one request (or one TCP connection) while it passes, and what its access log line is made from.
 *
 * One object per stream, all fields always present so that its shape never changes. Times are milliseconds of
 * performance.now(), -1 until the event happened. Headers are flat arrays [name, value, name, value, ...], names in lower case.
 */

import type { WorkloadPeer } from "./telemetry/workload-peer.ts";
import type { Host } from "./upstream/host.ts";

export type HeaderList = string[];

/** Bits of Envoy's response flags, in the order in which a request can get them: so %RESPONSE_FLAGS% prints them. */
export const responseFlags = {
  FailedLocalHealthCheck: 1 << 0,
  NoRouteFound: 1 << 1,
  NoClusterFound: 1 << 2,
  DelayInjected: 1 << 3,
  FaultInjected: 1 << 4,
  RateLimited: 1 << 5,
  UnauthorizedExternalService: 1 << 6,
  RateLimitServiceError: 1 << 7,
  UpstreamRetryLimitExceeded: 1 << 8,
  UpstreamOverflow: 1 << 9,
  NoHealthyUpstream: 1 << 10,
  UpstreamRequestTimeout: 1 << 11,
  LocalReset: 1 << 12,
  UpstreamRemoteReset: 1 << 13,
  UpstreamConnectionFailure: 1 << 14,
  UpstreamConnectionTermination: 1 << 15,
  DownstreamConnectionTermination: 1 << 16,
  StreamIdleTimeout: 1 << 17,
  InvalidEnvoyRequestHeaders: 1 << 18,
  DownstreamProtocolError: 1 << 19,
  UpstreamMaxStreamDurationReached: 1 << 20,
  ResponseFromCacheFilter: 1 << 21,
  NoFilterConfigFound: 1 << 22,
  DurationTimeout: 1 << 23,
  UpstreamProtocolError: 1 << 24,
  OverloadManagerTerminated: 1 << 25,
  DnsResolutionFailed: 1 << 26,
  DropOverload: 1 << 27,
  DownstreamRemoteReset: 1 << 28,
  UnconditionalDropOverload: 1 << 29,
} as const;

export type ResponseFlag = keyof typeof responseFlags;

/** The short and long names of the flags, in the order of their bits. */
export const responseFlagNames: readonly (readonly [short: string, long: ResponseFlag])[] = [
  ["LH", "FailedLocalHealthCheck"],
  ["NR", "NoRouteFound"],
  ["NC", "NoClusterFound"],
  ["DI", "DelayInjected"],
  ["FI", "FaultInjected"],
  ["RL", "RateLimited"],
  ["UAEX", "UnauthorizedExternalService"],
  ["RLSE", "RateLimitServiceError"],
  ["URX", "UpstreamRetryLimitExceeded"],
  ["UO", "UpstreamOverflow"],
  ["UH", "NoHealthyUpstream"],
  ["UT", "UpstreamRequestTimeout"],
  ["LR", "LocalReset"],
  ["UR", "UpstreamRemoteReset"],
  ["UF", "UpstreamConnectionFailure"],
  ["UC", "UpstreamConnectionTermination"],
  ["DC", "DownstreamConnectionTermination"],
  ["SI", "StreamIdleTimeout"],
  ["IH", "InvalidEnvoyRequestHeaders"],
  ["DPE", "DownstreamProtocolError"],
  ["UMSDR", "UpstreamMaxStreamDurationReached"],
  ["RFCF", "ResponseFromCacheFilter"],
  ["NFCF", "NoFilterConfigFound"],
  ["DT", "DurationTimeout"],
  ["UPE", "UpstreamProtocolError"],
  ["OM", "OverloadManagerTerminated"],
  ["DF", "DnsResolutionFailed"],
  ["DO", "DropOverload"],
  ["DR", "DownstreamRemoteReset"],
  ["UDO", "UnconditionalDropOverload"],
];

/** What is known of the TLS side of a connection; null where the connection is plain. */
export interface TlsInfo {
  /** `TLSv1.3` */
  readonly version: string;
  /** As IANA names it. */
  readonly cipher: string;
  /** As OpenSSL names it, which for TLS 1.3 is the same. */
  readonly opensslCipher: string;
  /** Hexadecimal; "" where the connection has none, as with TLS 1.3. */
  readonly sessionId: string;
  /** SNI as the client sent it, "" for none. */
  readonly serverName: string;
  /** The peer's certificate as DER, null when it sent none. */
  readonly peerCertificate: Buffer | null;
  readonly localCertificate: Buffer | null;
}

/** JSON objects by namespace: what filters found out, for later filters and the access log. */
export type DynamicMetadata = Map<string, Record<string, unknown>>;

export function setMetadata(metadata: DynamicMetadata, namespace: string, key: string, value: unknown): void {
  const fields = metadata.get(namespace);
  if (fields === undefined) metadata.set(namespace, { [key]: value });
  else fields[key] = value;
}

/** Named text that filters leave on a stream or its connection; of Envoy's filter state we know strings, and headers. */
export class FilterState extends Map<string, string> {
  /** Names of those that may decide on an endpoint: Envoy's objects of a kind that has a hash. */
  readonly hashable = new Set<string>();
  /** What is no text: headers, by name. */
  readonly headers = new Map<string, HeaderList>();
}

/** Envoy's filter state `envoy.filters.http.grpc_stats`: how many have begun. */
export interface GrpcMessages {
  readonly requests: { readonly total: number };
  readonly responses: { readonly total: number };
}

/** The stream's own object of that name, else its connection's. */
export function filterStateOf(info: StreamInfo, key: string): string | undefined {
  return info.filterState?.get(key) ?? info.connection.filterState?.get(key);
}

export function headerStateOf(info: StreamInfo, key: string): HeaderList | undefined {
  return info.filterState?.headers.get(key) ?? info.connection.filterState?.headers.get(key);
}

/** The same, where it is of a kind that has a hash. */
export function hashableStateOf(info: StreamInfo, key: string): string | undefined {
  const state = info.filterState?.has(key) ? info.filterState : info.connection.filterState;
  return state?.hashable.has(key) ? state.get(key) : undefined;
}

/** The downstream connection, shared by its streams. */
export interface ConnectionInfo {
  readonly id: number;
  /** `ip:port` after PROXY protocol or original destination; `direct` ones are the socket's. */
  readonly remoteAddress: string;
  readonly directRemoteAddress: string;
  readonly localAddress: string;
  readonly directLocalAddress: string;
  /** SNI, "" when none. */
  readonly requestedServerName: string;
  readonly filterChainName: string;
  readonly tls: TlsInfo | null;
  localCloseReason: string;
  transportFailureReason: string;
  terminationDetails: string;
  /** null until a network filter sets some. */
  filterState: FilterState | null;
}

export interface StreamInfo {
  readonly connection: ConnectionInfo;
  /** `HTTP/1.1`, `HTTP/2`; null for TCP. */
  protocol: string | null;
  /** Wall clock of the first byte, milliseconds since the epoch. */
  startTimeEpochMs: number;
  startTime: number;
  requestEndTime: number;
  upstreamFirstRequestByteTime: number;
  upstreamLastRequestByteTime: number;
  upstreamFirstResponseByteTime: number;
  upstreamLastResponseByteTime: number;
  downstreamFirstResponseByteTime: number;
  endTime: number;
  requestHeaders: HeaderList;
  responseHeaders: HeaderList;
  responseTrailers: HeaderList;
  method: string;
  /** With query, as it went upstream or was last rewritten. */
  path: string;
  authority: string;
  scheme: string;
  /** 0 when nothing was sent. */
  responseCode: number;
  responseCodeDetails: string;
  /** `responseFlags` ORed. */
  flags: number;
  /** Body bytes. */
  bytesReceived: number;
  bytesSent: number;
  requestHeaderBytes: number;
  responseHeaderBytes: number;
  upstreamWireBytesSent: number;
  upstreamWireBytesReceived: number;
  downstreamWireBytesReceived: number;
  downstreamWireBytesSent: number;
  /** After X-Forwarded-For; `ip:port`, or the bare ip when it came from the header. */
  downstreamRemoteAddress: string;
  routeName: string;
  virtualClusterName: string;
  /** Observability name (alt_stat_name) and name. */
  upstreamCluster: string;
  upstreamClusterRaw: string;
  /** `ip:port` of the endpoint, "" before one was chosen. */
  upstreamHost: string;
  upstreamHostName: string;
  upstreamLocalAddress: string;
  upstreamProtocol: string | null;
  upstreamTransportFailureReason: string;
  upstreamAttempts: number;
  upstreamConnectionId: number;
  upstreamTls: TlsInfo | null;
  /** The endpoint itself, null before one was chosen. */
  upstreamEndpoint: Host | null;
  /** What metadata exchange has found out of either side; undefined: it has not looked yet, or is not asked to; null: nothing. */
  downstreamPeer: WorkloadPeer | null | undefined;
  upstreamPeer: WorkloadPeer | null | undefined;
  /** Body of the local reply, for %LOCAL_REPLY_BODY%. */
  localReplyBody: string;
  /** A health check of this proxy, as the filter for them has found. */
  isHealthCheck: boolean;
  /** For %DYNAMIC_METADATA% and matchers; null until a filter sets some. */
  dynamicMetadata: DynamicMetadata | null;
  /** The stream's own, see `filterStateOf`; null until a filter sets some. */
  filterState: FilterState | null;
  /** null for what is no gRPC, or isn't looked into. */
  readonly grpcMessages?: GrpcMessages | null;
}
