/**
 * Where a proxy gets its certificates from, by name.
 *
 *   default, ROOTCA            the workload's own certificate and the mesh's roots: the agent, by the bootstrap's cluster sds-grpc
 *   kubernetes://[ns/]name     a Secret, from this control plane (secrets.ts); with `-cacert` its CA
 *   configmap://ns/name        a CA that everybody may read, likewise
 *   invalid://                 nothing, ever
 *   sds://name                 whatever listens behind the cluster sds-external (external-sds.ts)
 *   file-cert:CERT~KEY, file-root:CA    files on the proxy's machine, by the bootstrap's cluster sds-files-grpc
 *
 * Source: Istio pkg/model/authentication.go, pilot/pkg/security/model/authentication.go, pilot/pkg/model/credentials/resource.go.
 */
import { create } from "@bufbuild/protobuf";
import {
  AggregatedConfigSourceSchema,
  ApiConfigSource_ApiType,
  ApiVersion,
  type ConfigSource,
  ConfigSourceSchema,
} from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import { type SdsSecretConfig, SdsSecretConfigSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { duration } from "./messages.ts";

export const caSuffix = "-cacert";
export const credentialSchemes = {
  kubernetes: "kubernetes://",
  configMap: "configmap://",
  builtin: "builtin://",
  invalid: "invalid://",
  external: "sds://",
} as const;

const agentCluster = "sds-grpc";
const filesCluster = "sds-files-grpc";
export const externalCluster = "sds-external";

/** The certificate of the workload itself. Who has none should not wait for it for ever. */
export function workloadCertificate({ hasIdentity }: ProxyNode): SdsSecretConfig {
  return create(SdsSecretConfigSchema, { name: "default", sdsConfig: grpcSource(agentCluster, hasIdentity ? "waits" : "givesUp") });
}

/** The roots that the mesh's certificates are checked against. */
export function workloadRoots({ hasIdentity }: ProxyNode): SdsSecretConfig {
  return create(SdsSecretConfigSchema, { name: "ROOTCA", sdsConfig: grpcSource(agentCluster, hasIdentity ? "waits" : "givesUp") });
}

/** What a `credentialName` means, with `-cacert` behind it its CA. */
export function credentialSecret(credential: string, proxy: ProxyNode): SdsSecretConfig {
  if (credential === credentialSchemes.builtin) return workloadCertificate(proxy);
  if (credential === `${credentialSchemes.builtin}${caSuffix}`) return workloadRoots(proxy);
  if (credential.startsWith(credentialSchemes.external)) {
    if (hasExternalSecrets(proxy))
      return create(SdsSecretConfigSchema, { name: credential, sdsConfig: grpcSource(externalCluster, "givesUp") });
    return create(SdsSecretConfigSchema, {
      name: secretName(credential.slice(credentialSchemes.external.length)),
      sdsConfig: controlPlane(),
    });
  }
  return create(SdsSecretConfigSchema, { name: secretName(credential), sdsConfig: controlPlane() });
}

/** Whether somebody beside the proxy serves what `sds://` names stand for. */
export function hasExternalSecrets(proxy: ProxyNode): boolean {
  return proxy.metadata.credential === "true";
}

/** Whether something beside the proxy serves files as secrets and watches them; otherwise the proxy reads them itself, once. */
export function servesFiles(proxy: ProxyNode): boolean {
  return proxy.metadata["file-credential"] === "true";
}

export function fileSecret(name: `file-cert:${string}~${string}` | `file-root:${string}`): SdsSecretConfig {
  return create(SdsSecretConfigSchema, { name, sdsConfig: grpcSource(filesCluster, "givesUp") });
}

/** `kubernetes://name`, kept as it is where the user wrote a scheme. */
function secretName(credential: string): string {
  const { kubernetes, configMap, invalid } = credentialSchemes;
  if (credential.startsWith(invalid)) return invalid;
  return credential.startsWith(kubernetes) || credential.startsWith(configMap) ? credential : `${kubernetes}${credential}`;
}

/** With Envoy's default fetch timeout, unlike every other source: one secret that does not exist must not keep a gateway from starting. */
function controlPlane(): ConfigSource {
  return create(ConfigSourceSchema, {
    configSourceSpecifier: { case: "ads", value: create(AggregatedConfigSourceSchema) },
    resourceApiVersion: ApiVersion.V3,
  });
}

/** `waits`: what needs the secret is not used before it is there. */
function grpcSource(clusterName: string, patience: "waits" | "givesUp"): ConfigSource {
  return create(ConfigSourceSchema, {
    configSourceSpecifier: {
      case: "apiConfigSource",
      value: {
        $typeName: "envoy.config.core.v3.ApiConfigSource",
        apiType: ApiConfigSource_ApiType.GRPC,
        transportApiVersion: ApiVersion.V3,
        clusterNames: [],
        configValidators: [],
        setNodeOnFirstMessageOnly: true,
        grpcServices: [
          {
            $typeName: "envoy.config.core.v3.GrpcService",
            initialMetadata: [],
            targetSpecifier: {
              case: "envoyGrpc",
              value: { $typeName: "envoy.config.core.v3.GrpcService.EnvoyGrpc", clusterName, authority: "", skipEnvoyHeaders: false },
            },
          },
        ],
      },
    },
    ...(patience === "waits" ? { initialFetchTimeout: duration(0) } : {}),
    resourceApiVersion: ApiVersion.V3,
  });
}
