/** How the other side's certificate is judged: by names in it, and by whom it was signed. */
import { create } from "@bufbuild/protobuf";
import { DataSourceSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type CertificateValidationContext,
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { SdsSecretConfig } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { CommonTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { MeshConfig } from "../../api/mesh/mesh-config.ts";

type ValidationContextType = CommonTlsContext["validationContextType"];

/** `names` without the signer's certificates, which come by SDS. */
export function validationBySds(names: CertificateValidationContext, roots: SdsSecretConfig): ValidationContextType {
  return {
    case: "combinedValidationContext",
    value: {
      $typeName: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
      defaultValidationContext: names,
      validationContextSdsSecretConfig: roots,
    },
  };
}

/** A name may be a URI, an address, a mailbox or a DNS name; the matcher has to say which. */
export function exactName(name: string): SubjectAltNameMatcher {
  return create(SubjectAltNameMatcherSchema, { sanType: sanTypeOf(name), matcher: { matchPattern: { case: "exact", value: name } } });
}

function sanTypeOf(name: string): SubjectAltNameMatcher_SanType {
  if (name.includes("://")) return SubjectAltNameMatcher_SanType.URI;
  if (/^[\d.]+$/.test(name) || name.includes(":")) return SubjectAltNameMatcher_SanType.IP_ADDRESS;
  return name.includes("@") ? SubjectAltNameMatcher_SanType.EMAIL : SubjectAltNameMatcher_SanType.DNS;
}

/** Everybody who has an identity of one of the mesh's trust domains. */
export function meshIdentities(mesh: MeshConfig): SubjectAltNameMatcher[] {
  const domains = [mesh.trustDomain, ...mesh.trustDomainAliases, ...mesh.caCertificates.flatMap(({ trustDomains }) => trustDomains)];
  return [...new Set(domains.filter(Boolean))].map((domain) =>
    create(SubjectAltNameMatcherSchema, {
      sanType: SubjectAltNameMatcher_SanType.URI,
      matcher: { matchPattern: { case: "prefix", value: `spiffe://${domain}/` } },
    }),
  );
}

/** A file on the proxy's machine. */
export function file(filename: string) {
  return create(DataSourceSchema, { specifier: { case: "filename", value: filename } });
}
