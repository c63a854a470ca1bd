/** Has a key signed by the mesh's certificate authority. Source: Istio security/pkg/nodeagent/caclient/providers/citadel/client.go. */
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, type ServiceError, status } from "@grpc/grpc-js";
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from "../../api/gen/istio/v1/auth/ca_pb.js";
import { ownChannel } from "../../lib/grpc-channel.ts";
import type { Access } from "./control-plane-access.ts";

export interface SigningRequest {
  /** PKCS #10, PEM. */
  readonly csr: string;
  readonly ttlSeconds: number;
  readonly certSigner: string;
}

export interface SignedCertificate {
  /** PEM: the certificate and its intermediates. */
  readonly chain: string;
  /** PEM of all roots. */
  readonly roots: string;
}

const method = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const callTimeoutMs = 10_000;
const attempts = 5;
const firstPauseMs = 100;
const passing = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

/** Tries again what may pass by itself; every attempt opens its connection with what the disk says then. Rejects with the last error. */
export async function signRequest(request: SigningRequest, access: () => Promise<Access>, signal: AbortSignal): Promise<SignedCertificate> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await callOnce(request, await access(), signal);
    } catch (error) {
      const { code } = error as Partial<ServiceError>;
      if (attempt === attempts || code === undefined || !passing.has(code)) throw error;
      const pauseMs = firstPauseMs * 2 ** (attempt - 1);
      await delay(pauseMs * (0.9 + Math.random() * 0.2), undefined, { signal });
    }
  }
}

async function callOnce(
  { csr, ttlSeconds, certSigner }: SigningRequest,
  { target, credentials, metadata, options }: Access,
  signal: AbortSignal,
): Promise<SignedCertificate> {
  signal.throwIfAborted();
  const client = new Client(target, credentials, { ...ownChannel, ...options });
  let cancel = () => {};
  try {
    const { certChain } = await new Promise<IstioCertificateResponse>((resolve, reject) => {
      const call = client.makeUnaryRequest<IstioCertificateRequest, IstioCertificateResponse>(
        method,
        (value) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
        (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
        create(IstioCertificateRequestSchema, { csr, validityDuration: BigInt(ttlSeconds), metadata: { CertSigner: certSigner } }),
        metadata,
        { deadline: Date.now() + callTimeoutMs },
        (error, response) => (error ? reject(error) : resolve(response!)),
      );
      cancel = () => call.cancel();
      signal.addEventListener("abort", cancel);
    });
    if (certChain.length < 2) throw new Error(`the certificate authority sent a chain of ${certChain.length}: leaf and root are the least`);
    return { chain: certChain.slice(0, -1).join(""), roots: certChain.at(-1)! };
  } finally {
    signal.removeEventListener("abort", cancel);
    client.close();
  }
}
