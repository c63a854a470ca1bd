/**
 * Certificates that somebody put on the proxy's machine for it to use in place of those of the mesh's authority. Its node says where:
 *
 *   TLS_SERVER_CERT_CHAIN, TLS_SERVER_KEY    shown to clients of the mesh
 *   TLS_SERVER_ROOT_CERT                     by which these are judged
 *   TLS_CLIENT_CERT_CHAIN                    and TLS_CLIENT_KEY, TLS_CLIENT_ROOT_CERT: likewise towards servers
 *
 * Source: Istio pilot/pkg/security/model/authentication.go, pilot/pkg/networking/core/cluster_tls.go.
 */
import { create } from "@bufbuild/protobuf";
import {
  type CertificateValidationContext,
  TlsCertificateSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { ClientTLSSettings } from "../../api/kinds/destination-rule.ts";
import type { CertificateFiles, ProxyNode } from "../../api/node.ts";
import { file, validationBySds } from "./peer-validation.ts";
import { fileSecret, servesFiles, workloadCertificate, workloadRoots } from "./sds-secrets.ts";

/** Debian's and its children's bundle. */
const systemRoots = "/etc/ssl/certs/ca-certificates.crt";

/** A pair on the proxy's machine: served and watched by its agent, or read by the proxy itself. */
export function pairFromFiles(
  chain: string,
  key: string,
  proxy: ProxyNode,
): Partial<Pick<CommonTlsContext, "tlsCertificateSdsSecretConfigs" | "tlsCertificates">> {
  return servesFiles(proxy)
    ? { tlsCertificateSdsSecretConfigs: [fileSecret(`file-cert:${chain}~${key}`)] }
    : { tlsCertificates: [create(TlsCertificateSchema, { certificateChain: file(chain), privateKey: file(key) })] };
}

/** `expected` and a CA on the proxy's machine; `system` is the machine's own. */
export function validationByFile(
  expected: CertificateValidationContext,
  roots: string,
  proxy: ProxyNode,
): CommonTlsContext["validationContextType"] {
  if (servesFiles(proxy)) return validationBySds(expected, fileSecret(`file-root:${roots}`));
  return { case: "validationContext", value: { ...expected, trustedCa: file(roots === "system" ? systemRoots : roots) } };
}

/** What a server of the mesh shows, and judges clients by. */
export function serverCredentials(
  expected: CertificateValidationContext,
  proxy: ProxyNode,
): Partial<Pick<CommonTlsContext, "tlsCertificateSdsSecretConfigs" | "tlsCertificates" | "validationContextType">> {
  const { chain, key, roots } = proxy.serverFiles ?? { chain: "", key: "", roots: "" };
  return {
    ...(chain && key ? pairFromFiles(chain, key, proxy) : { tlsCertificateSdsSecretConfigs: [workloadCertificate(proxy)] }),
    validationContextType: roots ? validationByFile(expected, roots, proxy) : validationBySds(expected, workloadRoots(proxy)),
  };
}

/** TLS with the client's own files; it has no names of the mesh's protocols, so that the server can't know it for the mesh's. */
export function clientSettings(
  { chain, key, roots }: CertificateFiles,
  names: Pick<ClientTLSSettings, "subjectAltNames" | "sni" | "insecureSkipVerify">,
): ClientTLSSettings {
  const { subjectAltNames, sni, insecureSkipVerify } = names;
  return {
    mode: "MUTUAL",
    clientCertificate: chain,
    privateKey: key,
    caCertificates: roots,
    credentialName: "",
    caCrl: "",
    subjectAltNames,
    sni,
    insecureSkipVerify,
  };
}
