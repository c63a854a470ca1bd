/** Which transport a cluster's endpoint gets: `transport_socket`, or the first of `transport_socket_matches` that fits its metadata. */

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import type { Cluster as ClusterMessage } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { TransportSocket } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../api/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { ClientTls } from "../tls/client-context.ts";
import { ProxyAnnouncement } from "./proxy-announcement.ts";

export interface TransportSocketChoice {
  /** "" for the cluster's own. */
  readonly name: string;
  /** null: plaintext. */
  readonly tls: ClientTls | null;
  /** null: endpoints are not told whose connections they get. */
  readonly announcement: ProxyAnnouncement | null;
}

export interface TransportSocketMatcher extends TransportSocketChoice {
  readonly match: JsonObject;
}

export interface TransportSockets {
  readonly standard: TransportSocketChoice;
  readonly matchers: readonly TransportSocketMatcher[];
}

type SocketContext = Pick<CompileContext, "secrets" | "stats">;

export function compileTransportSockets(cluster: ClusterMessage, context: SocketContext): TransportSockets {
  const statPrefix = `cluster.${(cluster.altStatName || cluster.name).replaceAll(":", "_")}.`;
  const compile = (socket: TransportSocket | undefined) => compileTransportSocket(socket, context, statPrefix);
  return {
    standard: { name: "", ...compile(cluster.transportSocket) },
    matchers: cluster.transportSocketMatches.map((entry) => ({
      name: entry.name,
      match: entry.match ?? {},
      ...compile(entry.transportSocket),
    })),
  };
}

type Transports = Omit<TransportSocketChoice, "name">;

function compileTransportSocket(socket: TransportSocket | undefined, context: SocketContext, statPrefix: string): Transports {
  const any = socket?.configType.case === "typedConfig" ? socket.configType.value : undefined;
  const around = any && anyUnpack(any, ProxyProtocolUpstreamTransportSchema);
  if (around === undefined) return { tls: compileTls(socket, context), announcement: null };
  if (around.transportSocket === undefined) throw new ConfigError("ProxyProtocolUpstreamTransport: transport_socket: value is required");
  const { stats } = context;
  const tooLong = stats.counter(`${statPrefix}upstream.proxyprotocol.v2_tlvs_exceed_max_length`);
  return {
    tls: compileTls(around.transportSocket, context),
    announcement: new ProxyAnnouncement(around.config, () => stats.add(tooLong, 1)),
  };
}

function compileTls(socket: TransportSocket | undefined, { secrets }: SocketContext): ClientTls | null {
  if (socket === undefined) return null;
  const any = socket.configType.case === "typedConfig" ? socket.configType.value : undefined;
  const typeName = any?.typeUrl.replace(/^.*\//, "") ?? "";
  if (typeName === "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") return null;
  if (any !== undefined && typeName === UpstreamTlsContextSchema.typeName) {
    return new ClientTls(anyUnpack(any, UpstreamTlsContextSchema)!, secrets);
  }
  if (any === undefined && socket.name === "envoy.transport_sockets.raw_buffer") return null;
  throw new ConfigError(`Didn't find a registered implementation for '${socket.name}' with type URL: '${typeName}'`);
}

const metadataNamespace = "envoy.transport_socket_match";

export function chooseTransportSocket(
  sockets: TransportSockets,
  endpointMetadata: { readonly [namespace: string]: JsonObject },
): TransportSocketChoice {
  if (sockets.matchers.length === 0) return sockets.standard;
  const labels = endpointMetadata[metadataNamespace] ?? {};
  return (
    sockets.matchers.find((matcher) => Object.entries(matcher.match).every(([key, value]) => equals(labels[key], value))) ??
    sockets.standard
  );
}

function equals(a: JsonValue | undefined, b: JsonValue): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

export function speaksTls({ standard, matchers }: TransportSockets): boolean {
  return standard.tls !== null || matchers.some(({ tls }) => tls !== null);
}
