/** `istio.v1.auth.IstioCertificateService`: a caller gets a certificate for its own identity, whatever it asked for. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ServerUnaryCall, type ServiceDefinition, type sendUnaryData, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from "../../api/gen/istio/v1/auth/ca_pb.js";
import { formatSpiffeId } from "../../api/spiffe.ts";
import { log } from "../../lib/log.ts";
import { joinCertificates } from "../../lib/pem.ts";
import { type Authenticator, Unauthenticated } from "./authenticator.ts";
import { type CertificateAuthority, RequestRefused } from "./certificate-authority.ts";

const scope = log.scope("ca");

export interface CertificateServiceOptions {
  readonly authority: CertificateAuthority;
  readonly authenticator: Authenticator;
  /** PEM of whom the mesh trusts, which goes with every certificate. */
  readonly roots: () => readonly string[];
  /** Counts: `citadel_server_*`. */
  readonly onOutcome?: (outcome: CertificateOutcome) => void;
}

export type CertificateOutcome = "issued" | "authentication failure" | "CSR parsing failure" | "signing failure";

const serviceDefinition: ServiceDefinition = {
  CreateCertificate: {
    path: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: IstioCertificateRequest) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
    responseSerialize: (value: IstioCertificateResponse) => Buffer.from(toBinary(IstioCertificateResponseSchema, value)),
    responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
  },
};

type Request = ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>;

export function certificateService(options: CertificateServiceOptions): {
  definition: ServiceDefinition;
  implementation: UntypedServiceImplementation;
} {
  return {
    definition: serviceDefinition,
    implementation: {
      CreateCertificate: (call: Request, answer: sendUnaryData<IstioCertificateResponse>) => {
        createCertificate(options, call).then(
          (response) => answer(null, response),
          (error: unknown) => answer(explain(error, call, options)),
        );
      },
    },
  };
}

async function createCertificate({ authority, authenticator, roots, onOutcome }: CertificateServiceOptions, call: Request) {
  const identities = await authenticator.authenticate(call);
  const uris = identities.map(formatSpiffeId);
  const { csr, validityDuration } = call.request;
  const ttlSeconds = Number(validityDuration);
  const { chain, notAfter } = await authority.signRequest(
    csr,
    uris.map((value) => ({ type: "url", value })),
    ttlSeconds,
  );
  onOutcome?.("issued");
  scope.debug("certificate issued", { identity: uris.join(","), until: notAfter.toISOString(), peer: call.getPeer() });
  return create(IstioCertificateResponseSchema, { certChain: [...chain, joinCertificates(roots())] });
}

function explain(error: unknown, call: Request, { onOutcome }: CertificateServiceOptions): { code: status; details: string } {
  if (error instanceof Unauthenticated) {
    onOutcome?.("authentication failure");
    scope.warn("certificate refused", { peer: call.getPeer(), reason: error.message });
    return { code: status.UNAUTHENTICATED, details: "request authenticate failure" };
  }
  if (error instanceof RequestRefused) {
    onOutcome?.("CSR parsing failure");
    scope.warn("certificate refused", { peer: call.getPeer(), reason: error.message });
    return { code: status.INVALID_ARGUMENT, details: error.message };
  }
  onOutcome?.("signing failure");
  scope.error("signing failed", { peer: call.getPeer(), error: error instanceof Error ? (error.stack ?? error.message) : error });
  return { code: status.INTERNAL, details: "CSR signing error" };
}
