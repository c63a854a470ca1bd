/**
 * SDS for gateways: `kubernetes://[namespace/]name` is a Secret in the proxy's own namespace, `...-cacert` its CA.
 * A proxy gets only what its namespace holds; another namespace's name is answered like one that does not exist.
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

const scheme = "kubernetes://";
const caSuffix = "-cacert";

/** The reason, when a secret exists but can't be used; undefined result: there is none. */
export type SecretResult = { readonly secret: Secret } | { readonly problem: string } | undefined;

export function gatewaySecret(name: string, proxy: ProxyNode, push: PushContext): SecretResult {
  if (!name.startsWith(scheme)) return undefined;
  const path = name.slice(scheme.length);
  const slash = path.indexOf("/");
  const namespace = slash < 0 ? proxy.namespace : path.slice(0, slash);
  const object = slash < 0 ? path : path.slice(slash + 1);
  if (namespace !== proxy.namespace)
    return { problem: `proxy in namespace "${proxy.namespace}" may not read secret "${namespace}/${object}"` };
  const wantsCa = object.endsWith(caSuffix);
  const found = push.secret(namespace, object) ?? (wantsCa ? push.secret(namespace, object.slice(0, -caSuffix.length)) : undefined);
  if (!found) return undefined;
  return wantsCa ? validationSecret(name, found.spec) : certificateSecret(name, found.spec);
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

function validationSecret(name: string, { data }: KubernetesSecret): SecretResult {
  const ca = data["ca.crt"] ?? data.cacert;
  if (!ca) return { problem: "secret has no ca.crt or cacert" };
  const problem = certificateProblem(ca);
  if (problem) return { problem };
  const crl = data["ca.crl"] ?? data.crl;
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
