/** Access logs as mesh configuration asks for them. Source: Istio pilot/pkg/model/telemetry_logging.go, networking/core/accesslog.go. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { type AccessLog, AccessLogSchema } from "../../api/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import { FileAccessLogSchema } from "../../api/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import { any } from "./messages.ts";

/** The fields of a line, in Istio's order: the key in JSON, the operator, and whether the text form quotes it. */
const fields: readonly (readonly [key: string, operator: string, quoted?: boolean])[] = [
  ["response_code", "%RESPONSE_CODE%"],
  ["response_flags", "%RESPONSE_FLAGS%"],
  ["response_code_details", "%RESPONSE_CODE_DETAILS%"],
  ["connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"],
  ["upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%", true],
  ["bytes_received", "%BYTES_RECEIVED%"],
  ["bytes_sent", "%BYTES_SENT%"],
  ["duration", "%DURATION%"],
  ["upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"],
  ["x_forwarded_for", "%REQ(X-FORWARDED-FOR)%", true],
  ["user_agent", "%REQ(USER-AGENT)%", true],
  ["request_id", "%REQ(X-REQUEST-ID)%", true],
  ["authority", "%REQ(:AUTHORITY)%", true],
  ["upstream_host", "%UPSTREAM_HOST%", true],
  ["upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"],
  ["upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"],
  ["downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"],
  ["downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"],
  ["requested_server_name", "%REQUESTED_SERVER_NAME%"],
  ["route_name", "%ROUTE_NAME%"],
];

const requestLine = ["%REQ(:METHOD)%", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "%PROTOCOL%"];

const defaultText = `[%START_TIME%] "${requestLine.join(" ")}" ${fields.map(([, operator, quoted]) => (quoted ? `"${operator}"` : operator)).join(" ")}\n`;

const defaultJson: JsonObject = {
  start_time: "%START_TIME%",
  method: requestLine[0]!,
  path: requestLine[1]!,
  protocol: requestLine[2]!,
  ...Object.fromEntries(fields.map(([key, operator]) => [key, operator])),
};

/** Empty when the mesh wants none. */
export function accessLogs(mesh: MeshConfig): AccessLog[] {
  return mesh.accessLogFile ? [fileLog(mesh)] : [];
}

/** Of a listener: only what never reached a filter chain. */
export function listenerAccessLogs(mesh: MeshConfig): AccessLog[] {
  if (!mesh.accessLogFile || mesh.disableEnvoyListenerLog) return [];
  const log = fileLog(mesh);
  log.filter = {
    $typeName: "envoy.config.accesslog.v3.AccessLogFilter",
    filterSpecifier: { case: "responseFlagFilter", value: { $typeName: "envoy.config.accesslog.v3.ResponseFlagFilter", flags: ["NR"] } },
  };
  return [log];
}

function fileLog(mesh: MeshConfig): AccessLog {
  return create(AccessLogSchema, {
    name: "envoy.access_loggers.file",
    configType: {
      case: "typedConfig",
      value: any(FileAccessLogSchema, {
        path: mesh.accessLogFile,
        accessLogFormat: {
          case: "logFormat",
          value: {
            format:
              mesh.accessLogEncoding === "JSON"
                ? { case: "jsonFormat", value: jsonFormat(mesh.accessLogFormat) }
                : { case: "textFormatSource", value: { specifier: { case: "inlineString", value: mesh.accessLogFormat || defaultText } } },
          },
        },
      }),
    },
  });
}

/** A format of the user's own is JSON text; one that isn't JSON falls back to the default, as in Istio. */
function jsonFormat(text: string): JsonObject {
  if (text === "") return defaultJson;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? (parsed as JsonObject) : defaultJson;
  } catch {
    return defaultJson;
  }
}
