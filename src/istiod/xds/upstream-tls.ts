/**
 * TLS that a DestinationRule asks for towards an upstream: SIMPLE and MUTUAL with files on the proxy's machine.
 * Source: Istio pilot/pkg/networking/core/cluster_tls.go.
 */
import { create } from "@bufbuild/protobuf";
import { type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  CertificateValidationContextSchema,
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
  TlsCertificateSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { CommonTlsContextSchema, UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { ClientTLSSettings } from "../../api/kinds/destination-rule.ts";
import type { Service } from "../../registry/service.ts";
import { any } from "./messages.ts";

/** Debian's and its children's bundle; what `caCertificates: system` means. */
const systemRoots = "/etc/ssl/certs/ca-certificates.crt";

/** Undefined: plaintext. `speaksHttp2` decides the ALPN. */
export function upstreamTls(tls: ClientTLSSettings | undefined, service: Service, speaksHttp2: boolean): TransportSocket | undefined {
  if (!tls || tls.mode === "DISABLE" || tls.mode === "ISTIO_MUTUAL") return undefined;
  const names = tls.subjectAltNames.length > 0 ? tls.subjectAltNames : service.subjectAltNames;
  const file = (filename: string) => ({ specifier: { case: "filename" as const, value: filename } });
  const verifies = tls.insecureSkipVerify !== true;
  const validation = create(CertificateValidationContextSchema, {
    ...(verifies ? { trustedCa: file(tls.caCertificates && tls.caCertificates !== "system" ? tls.caCertificates : systemRoots) } : {}),
    ...(verifies && tls.caCrl ? { crl: file(tls.caCrl) } : {}),
    matchTypedSubjectAltNames: verifies ? names.flatMap(subjectAltNameMatchers) : [],
  });
  const context = create(UpstreamTlsContextSchema, {
    sni: tls.sni,
    ...(tls.sni === "" ? { autoHostSni: true } : {}),
    commonTlsContext: create(CommonTlsContextSchema, {
      validationContextType: { case: "validationContext", value: validation },
      alpnProtocols: speaksHttp2 ? ["h2"] : [],
      tlsCertificates:
        tls.mode === "MUTUAL" && tls.clientCertificate
          ? [create(TlsCertificateSchema, { certificateChain: file(tls.clientCertificate), privateKey: file(tls.privateKey) })]
          : [],
    }),
  });
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig", value: any(UpstreamTlsContextSchema, context) },
  });
}

/** A name may be a DNS name or a URI; the matcher has to say which. */
function subjectAltNameMatchers(name: string): SubjectAltNameMatcher[] {
  const sanType = name.includes("://") ? SubjectAltNameMatcher_SanType.URI : SubjectAltNameMatcher_SanType.DNS;
  return [create(SubjectAltNameMatcherSchema, { sanType, matcher: { matchPattern: { case: "exact", value: name } } })];
}
