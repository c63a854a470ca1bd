/**
 * TLS that ends at a gateway's server or at a port of a sidecar: certificates by credentialName over SDS, from files on the proxy's machine,
 * or the mesh's own. Source: Istio pilot/pkg/networking/core/listener.go (BuildListenerTLSContext), pilot/pkg/security/model/authentication.go.
 */
import { create } from "@bufbuild/protobuf";
import { isCipherSuite } from "../../api/cipher-suites.ts";
import { type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification,
  CertificateValidationContextSchema,
  TlsCertificateSchema,
  type TlsParameters,
  TlsParameters_TlsProtocol,
  TlsParametersSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
  DownstreamTlsContextSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { ServerTLSSettings } from "../../api/kinds/gateway.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import { any } from "./messages.ts";
import { serverCredentials, validationByFile } from "./mounted-certificates.ts";
import { serverAlpn } from "./mutual-tls.ts";
import { exactName, file, validationBySds } from "./peer-validation.ts";
import { caSuffix, credentialSecret, fileSecret, servesFiles } from "./sds-secrets.ts";

interface DownstreamTlsContextOf {
  readonly http: boolean;
  readonly proxy: ProxyNode;
  readonly mesh: MeshConfig;
}

export function downstreamTls(tls: ServerTLSSettings, { http, proxy, mesh }: DownstreamTlsContextOf): TransportSocket {
  const isMesh = tls.mode === "ISTIO_MUTUAL";
  const common = create(CommonTlsContextSchema, {
    alpnProtocols: serverAlpn(isMesh && !http ? "tcp" : "http", proxy),
  });
  if (isMesh) {
    Object.assign(common, serverCredentials(expectations(tls), proxy));
  } else {
    const params = tlsParameters(tls, mesh);
    if (params) common.tlsParams = params;
    addCertificates(common, tls, proxy);
    addValidation(common, tls, proxy);
  }
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: any(DownstreamTlsContextSchema, { commonTlsContext: common, requireClientCertificate: isMesh || tls.mode === "MUTUAL" }),
    },
  });
}

function credentialsOf(tls: ServerTLSSettings): readonly string[] {
  return tls.credentialNames.length > 0 ? tls.credentialNames : tls.credentialName ? [tls.credentialName] : [];
}

function addCertificates(common: CommonTlsContext, tls: ServerTLSSettings, proxy: ProxyNode): void {
  const credentials = credentialsOf(tls);
  if (credentials.length > 0) {
    common.tlsCertificateSdsSecretConfigs = credentials.map((credential) => credentialSecret(credential, proxy));
    return;
  }
  const given =
    tls.tlsCertificates.length > 0 ? tls.tlsCertificates : [{ serverCertificate: tls.serverCertificate, privateKey: tls.privateKey }];
  const files = given.filter(({ serverCertificate }) => serverCertificate !== "");
  if (servesFiles(proxy)) {
    common.tlsCertificateSdsSecretConfigs = files.map(({ serverCertificate, privateKey }) =>
      fileSecret(`file-cert:${serverCertificate}~${privateKey}`),
    );
  } else {
    common.tlsCertificates = files.map(({ serverCertificate, privateKey }) =>
      create(TlsCertificateSchema, { certificateChain: file(serverCertificate), privateKey: file(privateKey) }),
    );
  }
}

/** Client certificates are checked against the CA beside the credential, or a file. */
function addValidation(common: CommonTlsContext, tls: ServerTLSSettings, proxy: ProxyNode): void {
  if (tls.mode !== "MUTUAL" && tls.mode !== "OPTIONAL_MUTUAL") return;
  const names = expectations(tls);
  const [credential] = credentialsOf(tls);
  const ca = tls.caCertCredentialName || (credential === undefined ? "" : `${credential}${caSuffix}`);
  if (ca) {
    common.validationContextType = validationBySds(names, credentialSecret(ca, proxy));
  } else if (tls.caCertificates) {
    common.validationContextType = validationByFile(names, tls.caCertificates, proxy);
  } else {
    common.validationContextType = { case: "validationContext", value: names };
  }
}

/** What a client's certificate has to show beside a signature. */
function expectations(tls: ServerTLSSettings): CertificateValidationContext {
  return create(CertificateValidationContextSchema, {
    matchTypedSubjectAltNames: tls.subjectAltNames.map(exactName),
    verifyCertificateSpki: tls.verifyCertificateSpki,
    verifyCertificateHash: tls.verifyCertificateHash,
    ...(tls.caCrl ? { crl: file(tls.caCrl) } : {}),
    ...(tls.insecureSkipVerify ? { trustChainVerification: CertificateValidationContext_TrustChainVerification.ACCEPT_UNTRUSTED } : {}),
  });
}

const versions: Record<string, TlsParameters_TlsProtocol> = {
  TLSV1_0: TlsParameters_TlsProtocol.TLSv1_0,
  TLSV1_1: TlsParameters_TlsProtocol.TLSv1_1,
  TLSV1_2: TlsParameters_TlsProtocol.TLSv1_2,
  TLSV1_3: TlsParameters_TlsProtocol.TLSv1_3,
};

/** The server's own, beneath them the mesh's `tlsDefaults`. Undefined when nothing is set: Envoy's own limits then hold, 1.2 at the least. */
function tlsParameters(tls: ServerTLSSettings, { tlsDefaults }: MeshConfig): TlsParameters | undefined {
  const minimum = versions[tls.minProtocolVersion] ?? versions[tlsDefaults?.minProtocolVersion ?? ""];
  const maximum = versions[tls.maxProtocolVersion];
  const own = tls.cipherSuites.filter(isCipherSuite);
  const suites = own.length > 0 ? own : (tlsDefaults?.cipherSuites ?? []);
  const curves = tls.ecdhCurves.length > 0 ? tls.ecdhCurves : (tlsDefaults?.ecdhCurves ?? []);
  if (minimum === undefined && maximum === undefined && suites.length === 0 && curves.length === 0) return undefined;
  return create(TlsParametersSchema, {
    tlsMinimumProtocolVersion: minimum ?? TlsParameters_TlsProtocol.TLS_AUTO,
    tlsMaximumProtocolVersion: maximum ?? TlsParameters_TlsProtocol.TLS_AUTO,
    cipherSuites: [...suites],
    ecdhCurves: [...curves],
  });
}
