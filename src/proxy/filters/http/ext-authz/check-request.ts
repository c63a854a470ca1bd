/** The CheckRequest of a request: who asks whom for what, as Envoy tells it. */
import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { AddressSchema } from "../../../../api/gen/envoy/config/core/v3/address_pb.js";
import type { Metadata } from "../../../../api/gen/envoy/config/core/v3/base_pb.js";
import type { AttributeContext_PeerSchema } from "../../../../api/gen/envoy/service/auth/v3/attribute_context_pb.js";
import { type CheckRequest, CheckRequestSchema } from "../../../../api/gen/envoy/service/auth/v3/external_auth_pb.js";
import { certificateFields } from "../../../accesslog/certificate-fields.ts";
import { getHeader } from "../../../http/header-list.ts";
import type { DownstreamConnection } from "../../../listener/downstream-connection.ts";
import type { ConnectionInfo, DynamicMetadata, HeaderList } from "../../../stream-info.ts";
import type { Question } from "./authorizer.ts";
import { collectHeaders, type HeaderFilter, partialBodyHeader } from "./request-headers.ts";

export interface CheckRequestOptions {
  readonly isWanted: HeaderFilter;
  readonly includesCertificate: boolean;
  readonly includesTlsSession: boolean;
  readonly sendsRawHeaders: boolean;
  readonly bodyIsBinary: boolean;
  /** Of dynamic metadata and of the route's. */
  readonly namespaces: readonly string[];
  readonly routeNamespaces: readonly string[];
}

type Peer = MessageInitShape<typeof AttributeContext_PeerSchema>;

/** The pseudo headers are in the list as well, in front. */
function headersOf({ stream, body, bodyIsPartial }: Question, isWanted: HeaderFilter): HeaderList {
  const { info } = stream;
  const pseudo = [":authority", info.authority, ":path", info.path, ":method", info.method, ":scheme", info.scheme];
  const headers: HeaderList = [];
  for (let i = 0; i < pseudo.length; i += 2) if (isWanted(pseudo[i]!)) headers.push(pseudo[i]!, pseudo[i + 1]!);
  headers.push(...collectHeaders(info, isWanted, true));
  if (body !== null) headers.push(partialBodyHeader, String(bodyIsPartial));
  return headers;
}

let nextId = BigInt(`0x${crypto.randomUUID().replaceAll("-", "").slice(0, 15)}`);

export function checkRequestOf(question: Question, options: CheckRequestOptions): CheckRequest {
  const { stream, body, contextExtensions } = question;
  const { info, connection, route } = stream;
  const headers = headersOf(question, options.isWanted);
  const text = body !== null && !options.bodyIsBinary ? utf8(body) : "";
  const pairs: [string, string][] = [];
  for (let i = 0; i < headers.length; i += 2) pairs.push([headers[i]!, headers[i + 1]!]);
  return create(CheckRequestSchema, {
    attributes: {
      source: {
        ...peerOf(connection.info, "peer", options.includesCertificate),
        service: getHeader(info.requestHeaders, "x-envoy-downstream-service-cluster") ?? "",
      },
      destination: peerOf(connection.info, "local", options.includesCertificate),
      request: {
        time: { seconds: BigInt(Math.floor(info.startTimeEpochMs / 1000)), nanos: (info.startTimeEpochMs % 1000) * 1_000_000 },
        http: {
          id: String(nextId++),
          method: info.method,
          path: info.path,
          host: info.authority,
          scheme: info.scheme,
          size: BigInt(info.bytesReceived),
          protocol: info.protocol ?? "",
          ...(options.sendsRawHeaders
            ? { headerMap: { headers: pairs.map(([key, value]) => ({ key, rawValue: Buffer.from(value, "latin1") })) } }
            : { headers: Object.fromEntries(pairs.map(([key, value]) => [key, utf8(Buffer.from(value, "latin1"))])) }),
          body: text,
          ...(body !== null && options.bodyIsBinary && { rawBody: body }),
        },
      },
      contextExtensions,
      metadataContext: { filterMetadata: namespacesOf(info.dynamicMetadata, options.namespaces) },
      routeMetadataContext: { filterMetadata: routeNamespacesOf(route?.metadata, options.routeNamespaces) },
      ...(options.includesTlsSession && { tlsSession: { sni: sniOf(connection) } }),
    },
  });
}

/** The CheckRequest of a connection. */
export function connectionCheckOf(
  connection: DownstreamConnection,
  includesCertificate: boolean,
  includesTlsSession: boolean,
): CheckRequest {
  const { info } = connection;
  return create(CheckRequestSchema, {
    attributes: {
      source: peerOf(info, "peer", includesCertificate),
      destination: { ...peerOf(info, "local", includesCertificate), service: info.requestedServerName },
      metadataContext: {},
      ...(includesTlsSession && { tlsSession: { sni: sniOf(connection) } }),
    },
  });
}

/** Without tls_inspector only the TLS socket itself knows it. */
function sniOf({ info }: DownstreamConnection): string {
  return info.requestedServerName || info.tls?.serverName || "";
}

function peerOf(connection: ConnectionInfo, side: "peer" | "local", includesCertificate: boolean): Peer {
  const { tls } = connection;
  const der = side === "peer" ? tls?.peerCertificate : tls?.localCertificate;
  const fields = der == null ? null : certificateFields(der);
  return {
    address: addressOf(side === "peer" ? connection.remoteAddress : connection.localAddress),
    principal: fields === null ? "" : (fields.uriSans[0] ?? fields.dnsSans[0] ?? fields.subject),
    ...(includesCertificate && side === "peer" && fields !== null && { certificate: fields.encodedPem }),
  };
}

function addressOf(text: string) {
  const match = /^\[?(.*?)\]?:(\d+)$/.exec(text);
  if (match === null) return create(AddressSchema, { address: { case: "pipe", value: { path: text } } });
  const socketAddress = { address: match[1]!, portSpecifier: { case: "portValue" as const, value: Number(match[2]) } };
  return create(AddressSchema, { address: { case: "socketAddress", value: socketAddress } });
}

function namespacesOf(metadata: DynamicMetadata | null, names: readonly string[]): Record<string, JsonObject> {
  const found: Record<string, JsonObject> = {};
  for (const name of names) {
    const fields = metadata?.get(name);
    if (fields !== undefined) found[name] = fields as JsonObject;
  }
  return found;
}

function routeNamespacesOf(metadata: Metadata | undefined, names: readonly string[]): Record<string, JsonObject> {
  const found: Record<string, JsonObject> = {};
  for (const name of names) if (metadata?.filterMetadata[name] !== undefined) found[name] = metadata.filterMetadata[name];
  return found;
}

/** Protobuf's strings are UTF-8: any other byte becomes an exclamation mark. */
function utf8(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  if (!text.includes("\ufffd")) return text;
  return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : "!")).join("");
}
