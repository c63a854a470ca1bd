/**
 * TLS towards a cluster's endpoints: what a DestinationRule asks for, or mutual TLS on its own account to endpoints that take it.
 *
 *   no rule, auto     transport_socket_matches: endpoints marked tlsMode istio by mutual TLS, the others in plaintext
 *   ISTIO_MUTUAL      mutual TLS to all, with the workload's certificate
 *   SIMPLE, MUTUAL    TLS as outside of meshes, certificates from files or secrets
 *   DISABLE           plaintext
 *
 * A proxy with client certificates in files (mounted-certificates.ts) uses them wherever mutual TLS is asked for.
 *
 * Source: Istio pilot/pkg/networking/core/cluster_tls.go.
 */
import { create } from "@bufbuild/protobuf";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_TransportSocketMatchSchema,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type TransportSocket, TransportSocketSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { RawBufferSchema } from "../../api/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import {
  CertificateValidationContextSchema,
  TlsParameters_TlsProtocol,
  TlsParametersSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { ClientTLSSettings } from "../../api/kinds/destination-rule.ts";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { Service } from "../../registry/service.ts";
import { namesPrivateSecret } from "../push/destination-rules.ts";
import { any } from "./messages.ts";
import { clientSettings, pairFromFiles, validationByFile } from "./mounted-certificates.ts";
import { clientAlpn } from "./mutual-tls.ts";
import { exactName, file, validationBySds } from "./peer-validation.ts";
import { caSuffix, credentialSecret, workloadCertificate, workloadRoots } from "./sds-secrets.ts";

/** Metadata by which an endpoint says which of `transport_socket_matches` it is for. */
export const socketMatchNamespace = "envoy.transport_socket_match";
export const mutualTlsMatch = { tlsMode: "istio" };

/** `tls` as settingsWithFiles gives it. */
export interface UpstreamTlsContextOf {
  readonly tls: ClientTLSSettings | undefined;
  /** Mutual TLS where `tls` is undefined. */
  readonly isAutomatic: boolean;
  readonly service: Service;
  /** Who may be behind the service. */
  readonly identities: readonly string[];
  /** The server name of mutual TLS, `outbound_.80_._.host`. */
  readonly sni: string;
  readonly speaksHttp2: boolean;
  /** The rule is for chosen workloads, so that it may name secrets that only they can have. */
  readonly isForChosenWorkloads: boolean;
  readonly proxy: ProxyNode;
  readonly mesh: MeshConfig;
}

/** The settings that hold for this proxy: its own files stand in for the mesh's certificate, and for what a rule says of services of the mesh. */
export function settingsWithFiles({
  tls,
  isAutomatic,
  service,
  identities,
  sni,
  proxy,
}: UpstreamTlsContextOf): ClientTLSSettings | undefined {
  const { clientFiles } = proxy;
  if (!clientFiles) return tls;
  if (!tls)
    return isAutomatic ? clientSettings(clientFiles, { subjectAltNames: [...identities], sni, insecureSkipVerify: undefined }) : undefined;
  if (service.isExternal || tls.mode === "DISABLE" || tls.mode === "SIMPLE") return tls;
  return clientSettings(clientFiles, tls);
}

export function applyUpstreamTls(cluster: Cluster, context: UpstreamTlsContextOf): void {
  const { tls } = context;
  if (!tls) {
    if (context.isAutomatic) applyAutomatic(cluster, mutualTlsClient(context, [], ""));
    return;
  }
  switch (tls.mode) {
    case "DISABLE":
      return;
    case "ISTIO_MUTUAL":
      cluster.transportSocket = mutualTlsClient(context, tls.subjectAltNames, tls.sni);
      return;
    case "SIMPLE":
    case "MUTUAL":
      if (namesPrivateSecret(tls) && context.proxy.type === "sidecar" && !context.isForChosenWorkloads) return;
      cluster.transportSocket = tlsClient(tls, context);
      return;
    default:
      tls.mode satisfies never;
  }
}

/** What of TLS is taken from each HTTP request: the server name, and the name that the certificate must have. */
export interface NamesByRequest {
  readonly autoSni: boolean;
  readonly autoSanValidation: boolean;
}

/** Undefined: all names are in the configuration. */
export function namesByRequest(tls: ClientTLSSettings | undefined): NamesByRequest | undefined {
  if ((tls?.mode !== "SIMPLE" && tls?.mode !== "MUTUAL") || tls.sni !== "") return undefined;
  return { autoSni: true, autoSanValidation: tls.subjectAltNames.length === 0 && tls.insecureSkipVerify !== true };
}

function applyAutomatic(cluster: Cluster, socket: TransportSocket): void {
  const type = cluster.clusterDiscoveryType;
  if (type.case === "type" && type.value === Cluster_DiscoveryType.ORIGINAL_DST) {
    cluster.transportSocket = socket;
    return;
  }
  cluster.transportSocketMatches = [
    create(Cluster_TransportSocketMatchSchema, { name: "tlsMode-istio", match: mutualTlsMatch, transportSocket: socket }),
    create(Cluster_TransportSocketMatchSchema, { name: "tlsMode-disabled", match: {}, transportSocket: plaintext() }),
  ];
}

export function plaintext(): TransportSocket {
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.raw_buffer",
    configType: { case: "typedConfig", value: any(RawBufferSchema, {}) },
  });
}

function mutualTlsClient(context: UpstreamTlsContextOf, names: readonly string[], sni: string): TransportSocket {
  const expected = names.length > 0 ? names : context.identities;
  return tlsSocket(sni || context.sni, {
    tlsCertificateSdsSecretConfigs: [workloadCertificate(context.proxy)],
    validationContextType: validationBySds(
      create(CertificateValidationContextSchema, { matchTypedSubjectAltNames: expected.map(exactName) }),
      workloadRoots(context.proxy),
    ),
    alpnProtocols: [...clientAlpn(context.proxy), ...(context.speaksHttp2 ? ["h2"] : [])],
  });
}

function tlsClient(tls: ClientTLSSettings, context: UpstreamTlsContextOf): TransportSocket {
  const { tlsDefaults } = context.mesh;
  return tlsSocket(
    tls.sni,
    {
      ...clientCertificate(tls, context.proxy),
      validationContextType: validation(tls, context),
      alpnProtocols: context.speaksHttp2 ? ["h2"] : [],
    },
    { cipherSuites: [...(tlsDefaults?.cipherSuites ?? [])], ecdhCurves: [...(tlsDefaults?.ecdhCurves ?? [])] },
  );
}

function clientCertificate(tls: ClientTLSSettings, proxy: ProxyNode): Partial<CommonTlsContext> {
  if (tls.mode !== "MUTUAL") return {};
  if (tls.credentialName) return { tlsCertificateSdsSecretConfigs: [credentialSecret(tls.credentialName, proxy)] };
  if (!tls.clientCertificate) return {};
  return pairFromFiles(tls.clientCertificate, tls.privateKey, proxy);
}

function validation(tls: ClientTLSSettings, { service, proxy }: UpstreamTlsContextOf): CommonTlsContext["validationContextType"] {
  // Without anything to check by, Envoy takes whatever certificate there is.
  if (tls.insecureSkipVerify) return { case: "validationContext", value: create(CertificateValidationContextSchema) };
  const names = create(CertificateValidationContextSchema, { matchTypedSubjectAltNames: namesOf(tls, service).map(exactName) });
  if (tls.credentialName) return validationBySds(names, credentialSecret(`${tls.credentialName}${caSuffix}`, proxy));
  if (tls.caCrl) names.crl = file(tls.caCrl);
  return validationByFile(names, tls.caCertificates || "system", proxy);
}

/** The rule's names; without any those that a ServiceEntry says its hosts have. */
function namesOf(tls: ClientTLSSettings, service: Service): readonly string[] {
  return tls.subjectAltNames.length > 0 ? tls.subjectAltNames : service.registry === "External" ? service.subjectAltNames : [];
}

/** 1.2 to 1.3; Envoy alone would stay at 1.2 towards upstreams. */
function tlsSocket(
  sni: string,
  common: Partial<Pick<CommonTlsContext, "tlsCertificateSdsSecretConfigs" | "tlsCertificates" | "validationContextType" | "alpnProtocols">>,
  params: { readonly cipherSuites?: string[]; readonly ecdhCurves?: string[] } = {},
): TransportSocket {
  const commonTlsContext = create(CommonTlsContextSchema, {
    ...common,
    tlsParams: create(TlsParametersSchema, {
      tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2,
      tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
      ...params,
    }),
  });
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig", value: any(UpstreamTlsContextSchema, { sni, commonTlsContext }) },
  });
}
