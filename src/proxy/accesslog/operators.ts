/**
 * The command operators of access logs and header formats, Envoy 1.40's names and values.
 *
 * An operator is compiled once from what stands in its parentheses and gives a JSON value per stream: null where nothing
 * is known (text prints `-`), numbers where Envoy's JSON has numbers. Adding one is one line in a table below.
 *
 * What Envoy knows and this proxy has no source for (CEL, FILTER_STATE of foreign filters, JA3, tracing ids ...) is refused
 * when the configuration is read, so that nobody waits for a column that stays empty.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { ConfigError } from "../../api/config-error.ts";
import { type HeaderList, responseFlagNames, type StreamInfo, type TlsInfo } from "../stream-info.ts";
import { type CertificateFields, certificateFields } from "./certificate-fields.ts";
import { compileDynamicMetadata, compileFilterState } from "./stream-data-operators.ts";
import { compileTimeFormat } from "./time-format.ts";

export type FormatValue = string | number | boolean | null | readonly unknown[] | { readonly [key: string]: unknown };

/** When in a stream's life a line is written; Envoy's AccessLogType. */
export type AccessLogType =
  | "NotSet"
  | "TcpUpstreamConnected"
  | "TcpPeriodic"
  | "TcpConnectionEnd"
  | "DownstreamStart"
  | "DownstreamPeriodic"
  | "DownstreamEnd"
  | "DownstreamTunnelSuccessfullyEstablished"
  | "UpstreamPoolReady"
  | "UpstreamPeriodic"
  | "UpstreamEnd";

export type Operator = (info: StreamInfo, logType: AccessLogType) => FormatValue;

export interface OperatorContext {
  /** Extension formatters that the format asks for by name, such as `envoy.formatter.req_without_query`. */
  readonly formatters: ReadonlySet<string>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Without parentheses and length. */
const simple: Record<string, Operator> = {
  DURATION: (info) => between(info.startTime, info.endTime),
  REQUEST_DURATION: (info) => between(info.startTime, info.requestEndTime),
  REQUEST_TX_DURATION: (info) => between(info.startTime, info.upstreamLastRequestByteTime),
  RESPONSE_DURATION: (info) => between(info.startTime, info.upstreamFirstResponseByteTime),
  RESPONSE_TX_DURATION: (info) => between(info.upstreamFirstResponseByteTime, info.endTime),
  PROTOCOL: (info) => info.protocol,
  UPSTREAM_PROTOCOL: (info) => info.upstreamProtocol,
  RESPONSE_CODE: (info) => info.responseCode,
  RESPONSE_FLAGS: (info) => flagText(info.flags, 0, info.protocol === null),
  RESPONSE_FLAGS_LONG: (info) => flagText(info.flags, 1, info.protocol === null),
  CONNECTION_TERMINATION_DETAILS: (info) => orNull(info.connection.terminationDetails),
  BYTES_RECEIVED: (info) => info.bytesReceived,
  BYTES_SENT: (info) => info.bytesSent,
  UPSTREAM_WIRE_BYTES_SENT: (info) => info.upstreamWireBytesSent,
  UPSTREAM_WIRE_BYTES_RECEIVED: (info) => info.upstreamWireBytesReceived,
  DOWNSTREAM_WIRE_BYTES_SENT: (info) => info.downstreamWireBytesSent,
  DOWNSTREAM_WIRE_BYTES_RECEIVED: (info) => info.downstreamWireBytesReceived,
  DOWNSTREAM_HEADER_BYTES_SENT: (info) => info.responseHeaderBytes,
  DOWNSTREAM_HEADER_BYTES_RECEIVED: (info) => info.requestHeaderBytes,
  UPSTREAM_HOST: (info) => orNull(info.upstreamHost),
  UPSTREAM_HOST_NAME: (info) => orNull(info.upstreamHostName) ?? orNull(info.upstreamHost),
  UPSTREAM_HOST_NAME_WITHOUT_PORT: (info) => hostOf(info.upstreamHostName) ?? hostOf(info.upstreamHost),
  UPSTREAM_CLUSTER: (info) => orNull(info.upstreamCluster),
  UPSTREAM_CLUSTER_RAW: (info) => orNull(info.upstreamClusterRaw),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: (info) => info.upstreamAttempts,
  UPSTREAM_TRANSPORT_FAILURE_REASON: (info) => orNull(info.upstreamTransportFailureReason.replaceAll(" ", "_")),
  UPSTREAM_CONNECTION_ID: (info) => info.upstreamConnectionId,
  ROUTE_NAME: (info) => orNull(info.routeName),
  VIRTUAL_CLUSTER_NAME: (info) => orNull(info.virtualClusterName),
  FILTER_CHAIN_NAME: (info) => orNull(info.connection.filterChainName),
  REQUESTED_SERVER_NAME: (info) => orNull(info.connection.requestedServerName),
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: (info) => orNull(info.connection.transportFailureReason.replaceAll(" ", "_")),
  DOWNSTREAM_LOCAL_CLOSE_REASON: (info) => orNull(info.connection.localCloseReason),
  CONNECTION_ID: (info) => info.connection.id,
  STREAM_ID: (info) => header(info.requestHeaders, "x-request-id"),
  UNIQUE_ID: () => randomUUID(),
  HOSTNAME: () => hostname(),
  // The body is there while a local reply is being made; a log line does not have it.
  LOCAL_REPLY_BODY: (info, logType) => (logType === "NotSet" ? info.localReplyBody : ""),
  ACCESS_LOG_TYPE: (_info, logType) => logType,
};

/** Addresses: each gives NAME_ADDRESS, NAME_ADDRESS_WITHOUT_PORT and NAME_PORT. */
const addresses: Record<string, (info: StreamInfo) => string> = {
  DOWNSTREAM_REMOTE: (info) => info.downstreamRemoteAddress || info.connection.remoteAddress,
  DOWNSTREAM_DIRECT_REMOTE: (info) => info.connection.directRemoteAddress,
  DOWNSTREAM_LOCAL: (info) => info.connection.localAddress,
  DOWNSTREAM_DIRECT_LOCAL: (info) => info.connection.directLocalAddress,
  UPSTREAM_LOCAL: (info) => info.upstreamLocalAddress,
  // The host that was chosen is no remote address until there was a connection.
  UPSTREAM_REMOTE: (info) => (info.upstreamLocalAddress === "" ? "" : info.upstreamHost),
};
for (const [name, read] of Object.entries(addresses)) {
  simple[`${name}_ADDRESS`] = (info) => withPort(read(info));
  simple[`${name}_ADDRESS_WITHOUT_PORT`] = (info) => hostOf(read(info));
  simple[`${name}_PORT`] = (info) => portOf(read(info));
}

/** Certificates and TLS: each of the three sides has all of them. */
const certificateParts: Record<string, (fields: CertificateFields) => FormatValue> = {
  URI_SAN: (fields) => list(fields.uriSans),
  DNS_SAN: (fields) => list(fields.dnsSans),
  IP_SAN: (fields) => list(fields.ipSans),
  EMAIL_SAN: (fields) => list(fields.emailSans),
  SUBJECT: (fields) => orNull(fields.subject),
  ISSUER: (fields) => orNull(fields.issuer),
  SERIAL: (fields) => orNull(fields.serial),
  FINGERPRINT_1: (fields) => fields.sha1,
  FINGERPRINT_256: (fields) => fields.sha256,
  CERT: (fields) => fields.encodedPem,
};
const tlsSides: Record<string, (info: StreamInfo) => TlsInfo | null> = {
  DOWNSTREAM: (info) => info.connection.tls,
  UPSTREAM: (info) => info.upstreamTls,
};
for (const [side, tlsOf] of Object.entries(tlsSides)) {
  simple[`${side}_TLS_VERSION`] = (info) => orNull(tlsOf(info)?.version ?? "");
  simple[`${side}_TLS_CIPHER`] = (info) => orNull(tlsOf(info)?.cipher ?? "");
  simple[`${side}_TLS_SESSION_ID`] = (info) => orNull(tlsOf(info)?.sessionId ?? "");
  for (const [part, show] of Object.entries(certificateParts)) {
    simple[`${side}_PEER_${part}`] = (info) => ofCertificate(tlsOf(info)?.peerCertificate, show);
    simple[`${side}_LOCAL_${part}`] = (info) => ofCertificate(tlsOf(info)?.localCertificate, show);
  }
}

/** With something in parentheses, or a length. `parameter` is null where there are no parentheses. */
interface ParameterizedOperator {
  readonly needsParameter: boolean;
  readonly allowsLength: boolean;
  compile(parameter: string, context: OperatorContext): Operator;
}

const parameterized: Record<string, ParameterizedOperator> = {
  REQ: headerOperator((info, name) => requestHeader(info, name)),
  RESP: headerOperator((info, name) => (name === ":status" ? codeText(info) : header(info.responseHeaders, name))),
  TRAILER: headerOperator((info, name) => header(info.responseTrailers, name)),
  REQ_WITHOUT_QUERY: {
    needsParameter: true,
    allowsLength: true,
    compile(parameter, context) {
      if (!context.formatters.has("envoy.formatter.req_without_query")) throw unknownOperator("REQ_WITHOUT_QUERY");
      const read = alternatives(parameter, requestHeader);
      return (info) => withoutQuery(read(info));
    },
  },
  START_TIME: timeOperator((info) => info.startTimeEpochMs),
  EMIT_TIME: timeOperator(() => Date.now()),
  DOWNSTREAM_PEER_CERT_V_START: certificateTime("DOWNSTREAM", "validFromEpochMs"),
  DOWNSTREAM_PEER_CERT_V_END: certificateTime("DOWNSTREAM", "validToEpochMs"),
  UPSTREAM_PEER_CERT_V_START: certificateTime("UPSTREAM", "validFromEpochMs"),
  UPSTREAM_PEER_CERT_V_END: certificateTime("UPSTREAM", "validToEpochMs"),
  RESPONSE_CODE_DETAILS: {
    needsParameter: false,
    allowsLength: false,
    compile: (parameter) =>
      parameter === "ALLOW_WHITESPACES"
        ? (info) => orNull(info.responseCodeDetails)
        : (info) => orNull(info.responseCodeDetails.replaceAll(" ", "_")),
  },
  COMMON_DURATION: { needsParameter: true, allowsLength: false, compile: compileCommonDuration },
  GRPC_STATUS: { needsParameter: false, allowsLength: false, compile: compileGrpcStatus },
  GRPC_STATUS_NUMBER: { needsParameter: false, allowsLength: false, compile: () => grpcStatus },
  PATH: { needsParameter: false, allowsLength: true, compile: compilePath },
  QUERY_PARAM: {
    needsParameter: true,
    allowsLength: true,
    compile: (name) => (info) => new URLSearchParams(queryOf(info.path)).get(name),
  },
  QUERY_PARAMS: {
    needsParameter: false,
    allowsLength: true,
    compile: () => (info) => orNull(queryOf(header(info.requestHeaders, "x-envoy-original-path") ?? info.path)),
  },
  ENVIRONMENT: {
    needsParameter: true,
    allowsLength: true,
    compile(name, context) {
      const value = context.environment[name] ?? "-";
      return () => value;
    },
  },
  FILTER_STATE: { needsParameter: true, allowsLength: true, compile: compileFilterState },
  DYNAMIC_METADATA: { needsParameter: true, allowsLength: true, compile: compileDynamicMetadata },
  METADATA: {
    needsParameter: true,
    allowsLength: true,
    compile(parameter) {
      const [kind = "", ...path] = parameter.split(":");
      if (kind === "DYNAMIC") return compileDynamicMetadata(path.join(":"));
      if (["ROUTE", "CLUSTER", "UPSTREAM_HOST", "LISTENER", "VIRTUAL_HOST", "LISTENER_FILTER_CHAIN"].includes(kind)) {
        throw new ConfigError(`METADATA(${kind}) is not supported by this proxy`);
      }
      throw new ConfigError(`${kind} is not supported type of metadata`);
    },
  },
};

/** Envoy has these; this proxy has nothing to fill them with. */
const unsupported = new Set([
  "CEL",
  "COALESCE",
  "UPSTREAM_FILTER_STATE",
  "UPSTREAM_METADATA",
  "UPSTREAM_HEADER_BYTES_SENT",
  "UPSTREAM_HEADER_BYTES_RECEIVED",
  "UPSTREAM_SERVER_NAME",
  "UPSTREAM_CONNECTION_POOL_READY_DURATION",
  "UPSTREAM_HOSTS_ATTEMPTED",
  "UPSTREAM_HOST_NAMES_ATTEMPTED",
  "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
  "BYTES_RETRANSMITTED",
  "PACKETS_RETRANSMITTED",
  "ROUNDTRIP_DURATION",
  "TLS_JA3_FINGERPRINT",
  "TLS_JA4_FINGERPRINT",
  "TRACE_ID",
  "SPAN_ID",
  "CUSTOM_FLAGS",
]);

/** Compiles `NAME(parameter):length`; throws ConfigError in Envoy's words. `parameter` is null without parentheses. */
export function compileOperator(name: string, parameter: string | null, hasLength: boolean, context: OperatorContext): Operator {
  const plain = Object.hasOwn(simple, name) ? simple[name] : undefined;
  if (plain) {
    if (parameter !== null || hasLength) throw new ConfigError(`${name} does not take any parameters or length`);
    return plain;
  }
  const operator = Object.hasOwn(parameterized, name) ? parameterized[name] : undefined;
  if (operator) {
    if (operator.needsParameter && !parameter) throw new ConfigError(`${name} requires parameters`);
    if (hasLength && !operator.allowsLength) throw new ConfigError(`${name} does not allow length to be specified.`);
    return operator.compile(parameter ?? "", context);
  }
  if (unsupported.has(name)) throw new ConfigError(`${name} is not supported by this proxy`);
  throw unknownOperator(name);
}

function unknownOperator(name: string): ConfigError {
  return new ConfigError(`Not supported field in StreamInfo: ${name}`);
}

function headerOperator(read: (info: StreamInfo, name: string) => string | null): ParameterizedOperator {
  return { needsParameter: true, allowsLength: true, compile: (parameter) => alternatives(parameter, read) };
}

/** `NAME?ALTERNATIVE`: the second where the first is absent. */
function alternatives(parameter: string, read: (info: StreamInfo, name: string) => string | null): (info: StreamInfo) => string | null {
  const names = parameter.toLowerCase().split("?");
  if (names.length > 2) throw new ConfigError(`More than 1 alternative header specified in token: ${parameter}`);
  const [first, second] = names as [string, string?];
  if (second === undefined) return (info) => read(info, first);
  return (info) => read(info, first) ?? read(info, second);
}

function requestHeader(info: StreamInfo, name: string): string | null {
  if (name.charCodeAt(0) !== 58 /* : */) return header(info.requestHeaders, name);
  switch (name) {
    case ":method":
      return orNull(info.method);
    case ":path":
      return orNull(info.path);
    case ":authority":
      return orNull(info.authority);
    case ":scheme":
      return orNull(info.scheme);
    default:
      return header(info.requestHeaders, name);
  }
}

function header(headers: HeaderList, name: string): string | null {
  for (let index = 0; index < headers.length; index += 2) {
    if (headers[index] === name) return headers[index + 1]!;
  }
  return null;
}

function codeText(info: StreamInfo): string | null {
  return info.responseCode === 0 ? null : String(info.responseCode);
}

function timeOperator(epochMs: (info: StreamInfo) => number): ParameterizedOperator {
  return {
    needsParameter: false,
    allowsLength: false,
    compile(parameter) {
      const format = compileTimeFormat(parameter);
      return (info) => format(epochMs(info));
    },
  };
}

function certificateTime(side: "DOWNSTREAM" | "UPSTREAM", field: "validFromEpochMs" | "validToEpochMs"): ParameterizedOperator {
  const tlsOf = tlsSides[side]!;
  return {
    needsParameter: false,
    allowsLength: false,
    compile(parameter) {
      const format = compileTimeFormat(parameter);
      return (info) => ofCertificate(tlsOf(info)?.peerCertificate, (fields) => format(fields[field]));
    },
  };
}

function ofCertificate(der: Buffer | null | undefined, show: (fields: CertificateFields) => FormatValue): FormatValue {
  const fields = der ? certificateFields(der) : null;
  return fields ? show(fields) : null;
}

/** Points in time that COMMON_DURATION measures between. Those that Envoy has and we don't note are absent from a stream. */
const timePoints: Record<string, (info: StreamInfo) => number> = {
  DS_RX_BEG: (info) => info.startTime,
  DS_RX_END: (info) => info.requestEndTime,
  US_TX_BEG: (info) => info.upstreamFirstRequestByteTime,
  US_TX_END: (info) => info.upstreamLastRequestByteTime,
  US_RX_BEG: (info) => info.upstreamFirstResponseByteTime,
  US_RX_END: (info) => info.upstreamLastResponseByteTime,
  DS_TX_BEG: (info) => info.downstreamFirstResponseByteTime,
  DS_TX_END: (info) => info.endTime,
};

function compileCommonDuration(parameter: string): Operator {
  const [from, to, unit = "ms", ...rest] = parameter.split(":");
  if (!from || !to || rest.length > 0) throw new ConfigError(`Invalid common duration configuration: ${parameter}.`);
  const perMs = { ms: 1, us: 1000, ns: 1_000_000 }[unit];
  if (perMs === undefined) throw new ConfigError(`Invalid common duration precision: ${unit}.`);
  const begin = timePoints[from];
  const end = timePoints[to];
  if (!begin || !end) return () => null; // a time point of the user's own, which only a filter could set
  return (info) => between(begin(info), end(info), perMs);
}

/** Whole units between two times, null where one of them has not come. */
function between(beginMs: number, endMs: number, perMs = 1): number | null {
  return beginMs < 0 || endMs < 0 ? null : Math.max(0, Math.floor((endMs - beginMs) * perMs));
}

const camelStatus =
  "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated".split(
    " ",
  );
const snakeStatus =
  "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split(
    " ",
  );

function compileGrpcStatus(parameter: string): Operator {
  if (parameter === "NUMBER") return grpcStatus;
  if (!["", "CAMEL_STRING", "SNAKE_STRING"].includes(parameter)) {
    throw new ConfigError(`GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: ${parameter}`);
  }
  const names = parameter === "SNAKE_STRING" ? snakeStatus : camelStatus;
  return (info) => {
    const status = grpcStatus(info);
    return status === null ? null : (names[status] ?? String(status));
  };
}

/** Of a gRPC call: its grpc-status from trailers or headers, else what the HTTP status stands for. Null for other requests. */
export function grpcStatus(info: StreamInfo): number | null {
  const contentType = header(info.requestHeaders, "content-type");
  if (!contentType || !/^application\/grpc($|[+;])/.test(contentType)) return null;
  const sent = header(info.responseTrailers, "grpc-status") ?? header(info.responseHeaders, "grpc-status");
  if (sent !== null) return /^\d+$/.test(sent) ? Number(sent) : -1;
  switch (info.responseCode) {
    case 0:
      return null;
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

function compilePath(parameter: string): Operator {
  const [query = "", which = ""] = parameter.split(":");
  if (!["", "WQ", "NQ"].includes(query)) throw new ConfigError(`Invalid PATH option: '${query}', only 'WQ'/'NQ' are allowed`);
  if (!["", "ORIG", "PATH", "ORIG_OR_PATH"].includes(which)) {
    throw new ConfigError(`Invalid PATH option: '${which}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed`);
  }
  const read = (info: StreamInfo): string | null => {
    const original = which === "PATH" ? null : header(info.requestHeaders, "x-envoy-original-path");
    return original ?? (which === "ORIG" ? null : orNull(info.path));
  };
  return query === "NQ" ? (info) => withoutQuery(read(info)) : read;
}

function withoutQuery(path: string | null): string | null {
  if (path === null) return null;
  const query = path.indexOf("?");
  return query < 0 ? path : path.slice(0, query);
}

function queryOf(path: string): string {
  const query = path.indexOf("?");
  return query < 0 ? "" : path.slice(query + 1);
}

const flagTexts: [Map<number, string>, Map<number, string>] = [new Map(), new Map()];
const flagTextsOfTcp: typeof flagTexts = [new Map(), new Map()];
const retryLimit = responseFlagNames.find(([short]) => short === "URX");

/**
 * `URX,UF`, or `-`, in the order in which they were set: a request is given up before its last failure counts, a connection of TCP after.
 * Few combinations occur, so they are kept.
 */
export function flagText(flags: number, form: 0 | 1, isTcp: boolean): string {
  if (flags === 0) return "-";
  const known = isTcp ? flagTextsOfTcp : flagTexts;
  let text = known[form].get(flags);
  if (text === undefined) {
    const set = responseFlagNames.filter((_names, bit) => (flags & (1 << bit)) !== 0);
    if (isTcp) set.sort((a, b) => Number(a === retryLimit) - Number(b === retryLimit));
    text = set.map((names) => names[form]).join(",");
    known[form].set(flags, text);
  }
  return text;
}

function orNull(text: string): string | null {
  return text === "" ? null : text;
}

function list(values: readonly string[]): string | null {
  return values.length === 0 ? null : values.join(",");
}

/** An address that came out of a header has no port; Envoy shows it with port 0. */
function withPort(address: string): string | null {
  if (address === "") return null;
  return portOf(address) === null && !address.startsWith("/") ? `${address.includes(":") ? `[${address}]` : address}:0` : address;
}

/** `1.2.3.4` of `1.2.3.4:80`, `::1` of `[::1]:80`. */
function hostOf(address: string): string | null {
  if (address === "") return null;
  if (address.startsWith("[")) return address.slice(1, address.indexOf("]"));
  const colon = address.indexOf(":");
  return colon < 0 || address.indexOf(":", colon + 1) >= 0 ? address : address.slice(0, colon);
}

function portOf(address: string): number | null {
  const match = /^(?:\[[^\]]*\]|[^:]*):(\d+)$/.exec(address);
  return match ? Number(match[1]) : null;
}
