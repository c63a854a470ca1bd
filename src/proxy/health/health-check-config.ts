/** Cluster.health_checks, checked and with Envoy's defaults filled in. There may be one; Envoy of late takes several that have names. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { RequestMethod } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type {
  HealthCheck,
  HealthCheck_GrpcHealthCheck,
  HealthCheck_HttpHealthCheck,
  HealthCheck_Payload,
  HealthCheck_TcpHealthCheck,
} from "../../api/gen/envoy/config/core/v3/health_check_pb.js";
import { ProxyProtocolConfig_Version } from "../../api/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { HealthCheckEventFileSinkSchema } from "../../api/gen/envoy/extensions/health_check/event_sinks/file/v3/file_pb.js";
import { CodecClientType } from "../../api/gen/envoy/type/v3/http_pb.js";
import type { Int64Range } from "../../api/gen/envoy/type/v3/range_pb.js";
import { durationMs } from "../duration.ts";
import { compileHeaderEdits, type HeaderEdit } from "../router/header-mutation.ts";
import { compileStringMatcher, type StringPredicate } from "../router/string-matcher.ts";
import { type AlpnOffer, alpnOffer } from "../upstream/alpn-offer.ts";

/** From the first to before the second. */
type StatusRange = readonly [from: number, to: number];

export interface HttpCheck {
  readonly kind: "http";
  readonly codec: "http1" | "http2";
  readonly method: string;
  readonly path: string;
  /** "": the cluster's name. An endpoint's own goes before it. */
  readonly host: string;
  readonly body: Buffer | null;
  /** All of them, in this order, in the answer's first `maxBodyBytes`. */
  readonly receive: readonly Buffer[];
  readonly maxBodyBytes: number;
  readonly edits: readonly HeaderEdit[];
  readonly expected: readonly StatusRange[];
  /** Failures that count towards the threshold; others are enough by themselves. */
  readonly retriable: readonly StatusRange[];
  /** Of `x-envoy-upstream-healthchecked-cluster`. */
  readonly serviceName: StringPredicate | null;
}

export interface TcpCheck {
  readonly kind: "tcp";
  readonly send: Buffer;
  /** None: to be connected is enough. */
  readonly receive: readonly Buffer[];
  readonly proxyProtocol: 1 | 2 | null;
}

export interface GrpcCheck {
  readonly kind: "grpc";
  readonly service: string;
  readonly host: string;
  readonly edits: readonly HeaderEdit[];
}

export interface HealthCheckConfig {
  /** "" where there is but one, and it has none. */
  readonly name: string;
  readonly check: HttpCheck | TcpCheck | GrpcCheck;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly unhealthyIntervalMs: number;
  readonly unhealthyEdgeIntervalMs: number;
  readonly healthyEdgeIntervalMs: number;
  /** Of a cluster that nobody has used so far. */
  readonly noTrafficIntervalMs: number;
  readonly noTrafficHealthyIntervalMs: number;
  readonly initialJitterMs: number;
  readonly jitterMs: number;
  readonly jitterPercent: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  readonly reusesConnection: boolean;
  readonly alpn: AlpnOffer | null;
  /** Instead of the endpoint's metadata, where one of several transport sockets is chosen. */
  readonly socketCriteria: JsonObject | null;
  readonly logPaths: readonly string[];
  readonly alwaysLogsFailures: boolean;
  readonly alwaysLogsSuccesses: boolean;
}

/** With several of them a host is well when all find it so. */
export function compileHealthChecks({ name, healthChecks }: Cluster, speaksHttp2: boolean): readonly HealthCheckConfig[] {
  const names = new Set<string>();
  for (const [index, check] of healthChecks.entries()) {
    if (healthChecks.length === 1) break;
    if (check.name === "") {
      throw new ConfigError(
        `health check at index ${index} is missing a name; all health checks must have a name when multiple health checks are configured`,
      );
    }
    if (names.has(check.name)) {
      throw new ConfigError(
        `duplicate health check name '${check.name}' at index ${index}; all health check names must be unique within a cluster`,
      );
    }
    names.add(check.name);
  }
  return healthChecks.map((check) => compileHealthCheck(check, name, speaksHttp2));
}

function compileHealthCheck(message: HealthCheck, clusterName: string, speaksHttp2: boolean): HealthCheckConfig {
  const intervalMs = durationMs(message.interval, 0);
  const unhealthyIntervalMs = durationMs(message.unhealthyInterval, intervalMs);
  const noTrafficIntervalMs = durationMs(message.noTrafficInterval, 60_000);
  return {
    name: message.name,
    check: compileCheck(message, clusterName, speaksHttp2),
    timeoutMs: durationMs(message.timeout, 0),
    intervalMs,
    unhealthyIntervalMs,
    unhealthyEdgeIntervalMs: durationMs(message.unhealthyEdgeInterval, unhealthyIntervalMs),
    healthyEdgeIntervalMs: durationMs(message.healthyEdgeInterval, intervalMs),
    noTrafficIntervalMs,
    noTrafficHealthyIntervalMs: durationMs(message.noTrafficHealthyInterval, noTrafficIntervalMs),
    initialJitterMs: durationMs(message.initialJitter, 0),
    jitterMs: durationMs(message.intervalJitter, 0),
    jitterPercent: message.intervalJitterPercent,
    unhealthyThreshold: message.unhealthyThreshold ?? 0,
    healthyThreshold: message.healthyThreshold ?? 0,
    reusesConnection: message.reuseConnection ?? true,
    alpn: message.tlsOptions === undefined ? null : alpnOffer(message.tlsOptions.alpnProtocols),
    socketCriteria: message.transportSocketMatchCriteria ?? null,
    logPaths: compileLogPaths(message),
    alwaysLogsFailures: message.alwaysLogHealthCheckFailures,
    alwaysLogsSuccesses: message.alwaysLogHealthCheckSuccess,
  };
}

function compileCheck({ healthChecker }: HealthCheck, clusterName: string, speaksHttp2: boolean): HealthCheckConfig["check"] {
  switch (healthChecker.case) {
    case "httpHealthCheck":
      return compileHttp(healthChecker.value);
    case "tcpHealthCheck":
      return compileTcp(healthChecker.value);
    case "grpcHealthCheck":
      if (!speaksHttp2) throw new ConfigError(`${clusterName} cluster must support HTTP/2 for gRPC healthchecking`);
      return compileGrpc(healthChecker.value);
    case "customHealthCheck": {
      const { name, configType } = healthChecker.value;
      const typeName = configType.case === "typedConfig" ? configType.value.typeUrl.replace(/^.*\//, "") : "";
      throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
    }
    default:
      throw new ConfigError("HealthCheck: health_checker: value is required");
  }
}

const wholeBodyBytes = 16 * 1024 * 1024;

const bodilessMethods: ReadonlySet<RequestMethod> = new Set([
  RequestMethod.GET,
  RequestMethod.HEAD,
  RequestMethod.DELETE,
  RequestMethod.TRACE,
]);

function compileHttp(message: HealthCheck_HttpHealthCheck): HttpCheck {
  if (message.codecClientType === CodecClientType.HTTP3) throw new ConfigError("health check: HTTP/3 is not supported by this proxy");
  const method = message.method === RequestMethod.METHOD_UNSPECIFIED ? RequestMethod.GET : message.method;
  if (message.send !== undefined && bodilessMethods.has(method)) {
    throw new ConfigError(
      `HTTP health check cannot specify a request payload with method '${RequestMethod[method]}'. Only methods that support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload.`,
    );
  }
  const receive = message.receive.map(bytesOf);
  // 0 stands for all of it, within reason.
  const maxBodyBytes = Number(message.responseBufferSize ?? 1024) || wholeBodyBytes;
  const total = receive.reduce((sum, { length }) => sum + length, 0);
  if (total > maxBodyBytes) {
    throw new ConfigError(`The expected response length '${total}' is over than http health response buffer size '${maxBodyBytes}'`);
  }
  const expected = message.expectedStatuses.map((range) => statusRange(range, "expected"));
  return {
    kind: "http",
    codec: message.codecClientType === CodecClientType.HTTP2 ? "http2" : "http1",
    method: RequestMethod[method]!,
    path: message.path,
    host: message.host,
    body: message.send === undefined ? null : bytesOf(message.send),
    receive,
    maxBodyBytes,
    edits: compileHeaderEdits(message.requestHeadersToAdd, message.requestHeadersToRemove),
    expected: expected.length > 0 ? expected : [[200, 201]],
    retriable: message.retriableStatuses.map((range) => statusRange(range, "retriable")),
    serviceName: message.serviceNameMatcher === undefined ? null : compileStringMatcher(message.serviceNameMatcher),
  };
}

function statusRange({ start, end }: Int64Range, name: string): StatusRange {
  const problem = `Invalid http ${name} status range: expecting`;
  if (start >= end) throw new ConfigError(`${problem} start < end, but found start=${start} and end=${end}`);
  if (start < 100n) throw new ConfigError(`${problem} start >= 100, but found start=${start}`);
  if (end > 600n) throw new ConfigError(`${problem} end <= 600, but found end=${end}`);
  return [Number(start), Number(end)];
}

export function isInRanges(status: number, ranges: readonly StatusRange[]): boolean {
  return ranges.some(([from, to]) => status >= from && status < to);
}

function compileTcp(message: HealthCheck_TcpHealthCheck): TcpCheck {
  const version = message.proxyProtocolConfig?.version;
  return {
    kind: "tcp",
    send: message.send === undefined ? Buffer.alloc(0) : bytesOf(message.send),
    receive: message.receive.map(bytesOf),
    proxyProtocol: version === undefined ? null : version === ProxyProtocolConfig_Version.V2 ? 2 : 1,
  };
}

function compileGrpc(message: HealthCheck_GrpcHealthCheck): GrpcCheck {
  return { kind: "grpc", service: message.serviceName, host: message.authority, edits: compileHeaderEdits(message.initialMetadata, []) };
}

/** Hexadecimal text, or bytes as they are. */
function bytesOf({ payload }: HealthCheck_Payload): Buffer {
  if (payload.case === "binary") return Buffer.from(payload.value);
  const text = payload.value ?? "";
  if (!/^([0-9A-Fa-f]{2})+$/.test(text)) throw new ConfigError(`invalid hex string '${text}'`);
  return Buffer.from(text, "hex");
}

/** Each block is there, in this order, with whatever between. */
export function containsBlocks(bytes: Buffer, blocks: readonly Buffer[]): boolean {
  let from = 0;
  for (const block of blocks) {
    const at = bytes.indexOf(block, from);
    if (at < 0) return false;
    from = at + block.length;
  }
  return true;
}

function compileLogPaths({ eventLogPath, eventLogger }: HealthCheck): string[] {
  const paths = eventLogPath === "" ? [] : [eventLogPath];
  for (const { name, typedConfig } of eventLogger) {
    const sink = typedConfig && anyUnpack(typedConfig, HealthCheckEventFileSinkSchema);
    if (sink === undefined) {
      const typeName = typedConfig?.typeUrl.replace(/^.*\//, "") ?? "";
      throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
    }
    paths.push(sink.eventLogPath);
  }
  return paths;
}
