/**
 * Mutual TLS between workloads, as the server has it. The client's half is in upstream-tls.ts.
 *
 * Sidecars tell each other's traffic from any other TLS by the ALPN that clients offer; what is negotiated in the end says which
 * protocol is spoken inside. Source: Istio pilot/pkg/security/authn/utils/utils.go, pilot/pkg/networking/util/util.go.
 */
import { create } from "@bufbuild/protobuf";
import { type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  CertificateValidationContextSchema,
  TlsParameters_TlsProtocol,
  TlsParametersSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { CommonTlsContextSchema, DownstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { any } from "./messages.ts";
import { serverCredentials } from "./mounted-certificates.ts";
import { meshIdentities } from "./peer-validation.ts";

/** What clients of the mesh offer. */
export const meshAlpn = {
  /** HTTP that the client's proxy knew to be HTTP. */
  http: ["istio-http/1.0", "istio-http/1.1", "istio-h2"],
  tcp: ["istio-peer-exchange", "istio"],
  all: ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
} as const;

/** Who agrees on it says first who it is, so that only a proxy that can do so may offer it, or take it. */
export const peerExchangeProtocol = "istio-peer-exchange";

/** What a client of the mesh offers that does not know what it carries. */
export function clientAlpn({ hasIstioFilters }: ProxyNode): string[] {
  return hasIstioFilters ? [peerExchangeProtocol, "istio"] : ["istio"];
}

/** What a server of the mesh agrees to. Never `istio` itself: then nothing would say what is spoken inside. */
export function serverAlpn(carries: "http" | "tcp", { hasIstioFilters }: ProxyNode): string[] {
  return [...(carries === "tcp" && hasIstioFilters ? [peerExchangeProtocol] : []), "h2", "http/1.1"];
}

const cipherSuites = [
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "AES256-GCM-SHA384",
  "AES128-GCM-SHA256",
];

/** The workload's certificate shown, or what its node has in files; a certificate of the mesh demanded. */
export function mutualTlsServer(carries: "http" | "tcp", proxy: ProxyNode, mesh: MeshConfig): TransportSocket {
  const { meshMTLS } = mesh;
  const common = create(CommonTlsContextSchema, {
    alpnProtocols: serverAlpn(carries, proxy),
    tlsParams: create(TlsParametersSchema, {
      tlsMinimumProtocolVersion:
        meshMTLS?.minProtocolVersion === "TLSV1_3" ? TlsParameters_TlsProtocol.TLSv1_3 : TlsParameters_TlsProtocol.TLSv1_2,
      tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
      cipherSuites: meshMTLS && meshMTLS.cipherSuites.length > 0 ? [...meshMTLS.cipherSuites] : cipherSuites,
    }),
    ...serverCredentials(create(CertificateValidationContextSchema, { matchTypedSubjectAltNames: meshIdentities(mesh) }), proxy),
  });
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: any(DownstreamTlsContextSchema, { commonTlsContext: common, requireClientCertificate: true }),
    },
  });
}
