/** A cluster of the bootstrap as a gRPC target, for the streams that the proxy itself opens (xDS, SDS). */
import { readFileSync } from "node:fs";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { ConfigError } from "../../api/config-error.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import type { DataSource } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { RawBufferSchema } from "../../api/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import type { CertificateValidationContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { type UpstreamTlsContext, UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { subjectAltNames } from "../accesslog/certificate-fields.ts";
import { readDataSource } from "../data-source.ts";
import { durationMs } from "../duration.ts";
import { compileStringMatcher } from "../router/string-matcher.ts";

export interface GrpcTarget {
  readonly target: string;
  readonly credentials: ChannelCredentials;
  readonly keepaliveMs?: number;
}

/** Throws ConfigError for a cluster that can't be called this way. */
export function grpcTarget(cluster: Cluster): GrpcTarget {
  return { target: targetOf(cluster), credentials: credentialsOf(cluster), ...keepaliveOf(cluster) };
}

function targetOf(cluster: Cluster): string {
  const addresses: Address[] = [];
  for (const { lbEndpoints } of cluster.loadAssignment?.endpoints ?? []) {
    for (const { hostIdentifier } of lbEndpoints) {
      if (hostIdentifier.case === "endpoint" && hostIdentifier.value.address) addresses.push(hostIdentifier.value.address);
    }
  }
  const first = addresses[0]?.address;
  if (!first?.case) throw new ConfigError(`cluster '${cluster.name}' has no endpoint of its own, which a cluster for xDS needs`);
  switch (first.case) {
    case "pipe":
      return first.value.path.startsWith("@") ? `unix-abstract:${first.value.path.slice(1)}` : `unix:${first.value.path}`;
    case "socketAddress": {
      const targets = addresses.flatMap(({ address }) => (address.case === "socketAddress" ? [address.value] : []));
      const hostPort = ({ address, portSpecifier }: (typeof targets)[number]) =>
        `${address.includes(":") ? `[${address}]` : address}:${portSpecifier.case === "portValue" ? portSpecifier.value : portSpecifier.value}`;
      if (/^[\d.]+$/.test(first.value.address)) return `ipv4:${targets.map(hostPort).join(",")}`;
      if (first.value.address.includes(":")) return `ipv6:${targets.map(hostPort).join(",")}`;
      return `dns:${hostPort(first.value)}`;
    }
    default:
      throw new ConfigError(`cluster '${cluster.name}': an address of kind ${first.case} is not supported for xDS`);
  }
}

function credentialsOf(cluster: Cluster): ChannelCredentials {
  const any = cluster.transportSocket?.configType.case === "typedConfig" ? cluster.transportSocket.configType.value : undefined;
  if (!any || anyUnpack(any, RawBufferSchema)) return credentials.createInsecure();
  const tls = anyUnpack(any, UpstreamTlsContextSchema);
  if (!tls) throw new ConfigError(`cluster '${cluster.name}': transport socket ${any.typeUrl} is not supported for xDS`);
  return tlsCredentials(cluster.name, tls);
}

function tlsCredentials(name: string, tls: UpstreamTlsContext): ChannelCredentials {
  const common = tls.commonTlsContext;
  if (common && common.tlsCertificateSdsSecretConfigs.length > 0) {
    throw new ConfigError(`cluster '${name}': certificates by SDS are not supported for xDS itself; name files`);
  }
  const certificate = common?.tlsCertificates[0];
  const validation = validationOf(name, common?.validationContextType ?? { case: undefined });
  const read = (source: DataSource | undefined) => readDataSource(source);
  const options = {
    rejectUnauthorized: validation?.trustedCa !== undefined,
    checkServerIdentity: (host: string, peer: PeerCertificate) => checkPeer(validation, tls.sni || host, peer),
    ...(tls.sni !== "" && { servername: tls.sni }),
  };
  return credentials.createSsl(
    read(validation?.trustedCa) ?? readSystemRoots(),
    certificate ? read(certificate.privateKey) : null,
    certificate ? read(certificate.certificateChain) : null,
    options,
  );
}

type ValidationType = NonNullable<UpstreamTlsContext["commonTlsContext"]>["validationContextType"];

function validationOf(name: string, type: ValidationType): CertificateValidationContext | undefined {
  switch (type.case) {
    case undefined:
      return undefined;
    case "validationContext":
      return type.value;
    case "combinedValidationContext":
      return type.value.defaultValidationContext;
    default:
      throw new ConfigError(`cluster '${name}': a validation context by SDS is not supported for xDS itself; name a file`);
  }
}

/** Envoy's rule: the names listed in the configuration, or none; never the host name by itself. */
function checkPeer(validation: CertificateValidationContext | undefined, host: string, peer: PeerCertificate): Error | undefined {
  const matchers = validation?.matchTypedSubjectAltNames ?? [];
  if (matchers.length === 0) return undefined;
  const names = subjectAltNames(peer.subjectaltname ?? "").map(([, value]) => value);
  for (const { matcher } of matchers) {
    if (!matcher) continue;
    const test = compileStringMatcher(matcher);
    if (names.some((name) => test(name))) return undefined;
    if (matcher.matchPattern.case === "exact" && !checkServerIdentity(matcher.matchPattern.value, peer)) return undefined;
  }
  return new Error(`the certificate of ${host} has none of the expected names; it is for ${names.join(", ")}`);
}

function readSystemRoots(): Buffer | null {
  try {
    return readFileSync("/etc/ssl/certs/ca-certificates.crt");
  } catch {
    return null; // Node's own list
  }
}

function keepaliveOf(cluster: Cluster): { keepaliveMs?: number } {
  const any = cluster.typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
  const options = any && anyUnpack(any, HttpProtocolOptionsSchema)?.upstreamProtocolOptions;
  if (options?.case !== "explicitHttpConfig" || options.value.protocolConfig.case !== "http2ProtocolOptions") return {};
  const interval = options.value.protocolConfig.value.connectionKeepalive?.interval;
  return interval ? { keepaliveMs: durationMs(interval, 0) } : {};
}
