/** StreamInfo as one class, so that all streams of a thread share one shape. */
import {
  type ConnectionInfo,
  type DynamicMetadata,
  type FilterState,
  type GrpcMessages,
  type HeaderList,
  type StreamInfo,
  setMetadata,
  type TlsInfo,
} from "../stream-info.ts";
import type { WorkloadPeer } from "../telemetry/workload-peer.ts";
import type { Host } from "../upstream/host.ts";

export class RequestInfo implements StreamInfo {
  readonly connection: ConnectionInfo;
  protocol: string | null = null;
  startTimeEpochMs = 0;
  startTime = -1;
  requestEndTime = -1;
  upstreamFirstRequestByteTime = -1;
  upstreamLastRequestByteTime = -1;
  upstreamFirstResponseByteTime = -1;
  upstreamLastResponseByteTime = -1;
  downstreamFirstResponseByteTime = -1;
  endTime = -1;
  requestHeaders: HeaderList = noHeaders;
  responseHeaders: HeaderList = noHeaders;
  responseTrailers: HeaderList = noHeaders;
  method = "";
  path = "";
  authority = "";
  scheme = "";
  responseCode = 0;
  responseCodeDetails = "";
  flags = 0;
  bytesReceived = 0;
  bytesSent = 0;
  requestHeaderBytes = 0;
  responseHeaderBytes = 0;
  upstreamWireBytesSent = 0;
  upstreamWireBytesReceived = 0;
  downstreamWireBytesReceived = 0;
  downstreamWireBytesSent = 0;
  downstreamRemoteAddress: string;
  routeName = "";
  virtualClusterName = "";
  upstreamCluster = "";
  upstreamClusterRaw = "";
  upstreamHost = "";
  upstreamHostName = "";
  upstreamLocalAddress = "";
  upstreamProtocol: string | null = null;
  upstreamTransportFailureReason = "";
  upstreamAttempts = 0;
  upstreamConnectionId = 0;
  upstreamTls: TlsInfo | null = null;
  upstreamEndpoint: Host | null = null;
  downstreamPeer: WorkloadPeer | null | undefined = undefined;
  upstreamPeer: WorkloadPeer | null | undefined = undefined;
  localReplyBody = "";
  isHealthCheck = false;
  dynamicMetadata: DynamicMetadata | null = null;
  filterState: FilterState | null = null;
  grpcMessages: GrpcMessages | null = null;

  constructor(connection: ConnectionInfo) {
    this.connection = connection;
    this.downstreamRemoteAddress = connection.remoteAddress;
  }

  /** What filters tell each other and the access log: one field of a namespace, which is a filter's name as a rule. JSON values only. */
  setDynamicMetadata(namespace: string, key: string, value: unknown): void {
    this.dynamicMetadata ??= new Map();
    setMetadata(this.dynamicMetadata, namespace, key, value);
  }
}

/** Shared by streams that have none yet; never written to. */
const noHeaders: HeaderList = [];
