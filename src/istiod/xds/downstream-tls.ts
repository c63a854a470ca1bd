/**
 * TLS that ends at a gateway's server: certificate by credentialName over SDS, or from files on the gateway's machine.
 * Source: Istio pilot/pkg/networking/core/gateway.go (buildGatewayListenerTLSContext), pilot/pkg/security/model/authentication.go.
 */
import { create } from "@bufbuild/protobuf";
import { DataSourceSchema, type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { AggregatedConfigSourceSchema, ApiVersion, ConfigSourceSchema } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import {
  CertificateValidationContextSchema,
  TlsCertificateSchema,
  type TlsParameters,
  TlsParameters_TlsProtocol,
  TlsParametersSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { SdsSecretConfigSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
  DownstreamTlsContextSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { ServerTLSSettings } from "../../api/kinds/gateway.ts";
import { any } from "./messages.ts";

const credentialScheme = "kubernetes://";

export function downstreamTls(tls: ServerTLSSettings, { http }: { readonly http: boolean }): TransportSocket {
  const common = create(CommonTlsContextSchema, { alpnProtocols: http ? ["h2", "http/1.1"] : [] });
  const params = tlsParameters(tls);
  if (params) common.tlsParams = params;
  addCertificates(common, tls);
  addValidation(common, tls);
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: any(DownstreamTlsContextSchema, { commonTlsContext: common, requireClientCertificate: tls.mode === "MUTUAL" }),
    },
  });
}

function addCertificates(common: CommonTlsContext, tls: ServerTLSSettings): void {
  const names = tls.credentialNames.length > 0 ? tls.credentialNames : tls.credentialName ? [tls.credentialName] : [];
  if (names.length > 0) {
    common.tlsCertificateSdsSecretConfigs = names.map((name) =>
      create(SdsSecretConfigSchema, { name: secretName(name), sdsConfig: secretSource() }),
    );
    return;
  }
  const files =
    tls.tlsCertificates.length > 0 ? tls.tlsCertificates : [{ serverCertificate: tls.serverCertificate, privateKey: tls.privateKey }];
  common.tlsCertificates = files
    .filter(({ serverCertificate }) => serverCertificate !== "")
    .map(({ serverCertificate, privateKey }) =>
      create(TlsCertificateSchema, { certificateChain: file(serverCertificate), privateKey: file(privateKey) }),
    );
}

/** Client certificates are checked against the CA beside the credential, or a file. */
function addValidation(common: CommonTlsContext, tls: ServerTLSSettings): void {
  if (tls.mode !== "MUTUAL" && tls.mode !== "OPTIONAL_MUTUAL") return;
  const credential = tls.caCertCredentialName || (tls.credentialName ? `${tls.credentialName}-cacert` : "");
  const context = create(CertificateValidationContextSchema, {
    matchTypedSubjectAltNames: tls.subjectAltNames.map((name) => ({
      sanType: name.includes("://") ? 3 : 2,
      matcher: { matchPattern: { case: "exact" as const, value: name } },
    })),
    verifyCertificateSpki: tls.verifyCertificateSpki,
    verifyCertificateHash: tls.verifyCertificateHash,
  });
  if (credential) {
    common.validationContextType = {
      case: "combinedValidationContext",
      value: {
        $typeName: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        defaultValidationContext: context,
        validationContextSdsSecretConfig: create(SdsSecretConfigSchema, { name: secretName(credential), sdsConfig: secretSource() }),
      },
    };
    return;
  }
  if (tls.caCertificates) context.trustedCa = create(DataSourceSchema, file(tls.caCertificates));
  if (tls.caCrl) context.crl = create(DataSourceSchema, file(tls.caCrl));
  common.validationContextType = { case: "validationContext", value: context };
}

/** `kubernetes://name`, kept as it is where the user wrote a scheme. */
function secretName(credential: string): string {
  return credential.includes("://") ? credential : `${credentialScheme}${credential}`;
}

const versions: Record<string, TlsParameters_TlsProtocol> = {
  TLSV1_0: TlsParameters_TlsProtocol.TLSv1_0,
  TLSV1_1: TlsParameters_TlsProtocol.TLSv1_1,
  TLSV1_2: TlsParameters_TlsProtocol.TLSv1_2,
  TLSV1_3: TlsParameters_TlsProtocol.TLSv1_3,
};

/** Undefined when nothing is set: Envoy's own limits then hold, 1.2 at the least. */
function tlsParameters(tls: ServerTLSSettings): TlsParameters | undefined {
  const minimum = versions[tls.minProtocolVersion];
  const maximum = versions[tls.maxProtocolVersion];
  if (minimum === undefined && maximum === undefined && tls.cipherSuites.length === 0) return undefined;
  return create(TlsParametersSchema, {
    tlsMinimumProtocolVersion: minimum ?? TlsParameters_TlsProtocol.TLS_AUTO,
    tlsMaximumProtocolVersion: maximum ?? TlsParameters_TlsProtocol.TLS_AUTO,
    cipherSuites: tls.cipherSuites,
  });
}

function file(filename: string) {
  return { specifier: { case: "filename" as const, value: filename } };
}

/** With Envoy's default fetch timeout, unlike every other source: one secret that does not exist must not keep a gateway from starting. */
function secretSource() {
  return create(ConfigSourceSchema, {
    configSourceSpecifier: { case: "ads", value: create(AggregatedConfigSourceSchema) },
    resourceApiVersion: ApiVersion.V3,
  });
}
