/** Envoy's validator of SPIFFE identities, by which SPIRE's agent says whom to trust: a bundle of roots for each trust domain. */
import { fromBinary } from "@bufbuild/protobuf";
import type { CertificateValidationContext } from "../gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type SPIFFECertValidatorConfig_TrustDomain,
  SPIFFECertValidatorConfigSchema,
} from "../gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js";

const name = "envoy.tls.cert_validator.spiffe";

/** Undefined where the context has another validator, or none. */
export function spiffeTrustDomains(context: CertificateValidationContext): readonly SPIFFECertValidatorConfig_TrustDomain[] | undefined {
  const { customValidatorConfig } = context;
  if (customValidatorConfig?.name !== name) return undefined;
  return fromBinary(SPIFFECertValidatorConfigSchema, customValidatorConfig.typedConfig?.value ?? new Uint8Array()).trustDomains;
}
