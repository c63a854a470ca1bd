/** Secrets as Envoy takes them, with their content inline. */
import { create } from "@bufbuild/protobuf";
import { type Secret, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";

export function certificateSecret(name: string, chain: string, privateKey: string): Secret {
  return create(SecretSchema, {
    name,
    type: { case: "tlsCertificate", value: { certificateChain: inline(chain), privateKey: inline(privateKey) } },
  });
}

export function rootSecret(name: string, roots: string, crl?: string): Secret {
  const revoked = crl === undefined ? {} : { crl: inline(crl), onlyVerifyLeafCertCrl: true };
  return create(SecretSchema, { name, type: { case: "validationContext", value: { trustedCa: inline(roots), ...revoked } } });
}

function inline(text: string) {
  return { specifier: { case: "inlineBytes" as const, value: new Uint8Array(Buffer.from(text)) } };
}
