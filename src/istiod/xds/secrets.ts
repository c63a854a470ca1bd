/**
 * SDS from the control plane. A proxy gets only what its namespace holds and its service account may read (push/secret-readers.ts); what
 * it may not have is answered like what does not exist.
 *
 *   kubernetes://[namespace/]name       a Secret's certificate and key
 *   kubernetes://[namespace/]name-cacert  the CA of that Secret, or of the Secret `name-cacert`
 *   configmap://namespace/name[-cacert] the CA in a ConfigMap, of any namespace: it is no secret
 *   invalid://                          nothing, ever
 *
 * Source: Istio pilot/pkg/xds/sds.go, pilot/pkg/credentials/kube/secrets.go.
 */
import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  CertificateValidationContextSchema,
  TlsCertificateSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { type Secret, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Secret as KubernetesSecret } from "../../api/kinds/secret.ts";
import type { ProxyNode } from "../../api/node.ts";
import type { PushContext } from "../push/push-context.ts";
import { caSuffix, credentialSchemes } from "./sds-secrets.ts";

/** The reason, when a secret exists but can't be used; undefined result: there is none. */
export type SecretResult = { readonly secret: Secret } | { readonly problem: string } | undefined;

export function controlPlaneSecret(name: string, proxy: ProxyNode, push: PushContext): SecretResult {
  const { kubernetes, configMap, invalid } = credentialSchemes;
  if (name.startsWith(kubernetes)) return ofSecret(name, splitPath(name.slice(kubernetes.length), proxy.namespace), proxy, push);
  if (name.startsWith(configMap)) return ofConfigMap(name, splitPath(name.slice(configMap.length), ""), push);
  if (name.startsWith(invalid)) return { problem: "it stands for a certificate that is never valid" };
  return undefined;
}

interface ObjectName {
  readonly namespace: string;
  readonly name: string;
}

function splitPath(path: string, ownNamespace: string): ObjectName {
  const slash = path.indexOf("/");
  return slash < 0 ? { namespace: ownNamespace, name: path } : { namespace: path.slice(0, slash), name: path.slice(slash + 1) };
}

/** The name that the CA of a credential is asked for by, without its ending; undefined: it is not one. */
function withoutCaSuffix(name: string): string | undefined {
  return name.endsWith(caSuffix) ? name.slice(0, -caSuffix.length) : undefined;
}

function ofSecret(resource: string, { namespace, name }: ObjectName, proxy: ProxyNode, push: PushContext): SecretResult {
  const credential = withoutCaSuffix(name);
  const refusal = push.secretReaders.refusal(proxy, namespace, credential ?? name, credential !== undefined);
  if (refusal !== undefined) return { problem: refusal };
  const found = push.secret(namespace, name) ?? (credential === undefined ? undefined : push.secret(namespace, credential));
  if (!found) return undefined;
  return credential === undefined ? certificateSecret(resource, found.spec) : validationSecret(resource, found.spec.data);
}

function ofConfigMap(resource: string, { namespace, name }: ObjectName, push: PushContext): SecretResult {
  const credential = withoutCaSuffix(name);
  const found = push.configMap(namespace, name) ?? (credential === undefined ? undefined : push.configMap(namespace, credential));
  if (!found) return undefined;
  const { data, binaryData } = found.spec;
  const text = Object.entries(data).map(([key, value]) => [key, Buffer.from(value)] as const);
  return validationSecret(resource, { ...Object.fromEntries(text), ...binaryData });
}

function certificateSecret(name: string, { data }: KubernetesSecret): SecretResult {
  const certificate = data["tls.crt"] ?? data.cert;
  const key = data["tls.key"] ?? data.key;
  if (!certificate || !key) return { problem: `secret has no tls.crt and tls.key, nor cert and key` };
  const problem = certificateProblem(certificate);
  if (problem) return { problem };
  const staple = data["tls.ocsp-staple"];
  return {
    secret: create(SecretSchema, {
      name,
      type: {
        case: "tlsCertificate",
        value: create(TlsCertificateSchema, {
          certificateChain: inlineBytes(certificate),
          privateKey: inlineBytes(key),
          ...(staple ? { ocspStaple: inlineBytes(staple) } : {}),
        }),
      },
    }),
  };
}

function validationSecret(name: string, data: Readonly<Record<string, Uint8Array>>): SecretResult {
  const ca = data["ca.crt"] ?? data.cacert;
  if (!ca) return { problem: "it has no ca.crt or cacert" };
  const problem = certificateProblem(ca);
  if (problem) return { problem };
  const crl = data["ca.crl"] ?? data.crl;
  if (crl && !Buffer.from(crl).includes("-----BEGIN X509 CRL-----")) return { problem: "its revocation list is not PEM" };
  return {
    secret: create(SecretSchema, {
      name,
      type: {
        case: "validationContext",
        value: create(CertificateValidationContextSchema, { trustedCa: inlineBytes(ca), ...(crl ? { crl: inlineBytes(crl) } : {}) }),
      },
    }),
  };
}

/** A certificate that can't be read would be a NACK in every gateway; it is found here, once. */
function certificateProblem(pem: Uint8Array): string | undefined {
  try {
    new X509Certificate(pem);
    return undefined;
  } catch (error) {
    return `certificate can't be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function inlineBytes(value: Uint8Array) {
  return { specifier: { case: "inlineBytes" as const, value } };
}
