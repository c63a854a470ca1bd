/** An agent's side of the certificate service, for tests. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ChannelCredentials, Client, Metadata } from "@grpc/grpc-js";
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from "../../api/gen/istio/v1/auth/ca_pb.js";
import { algorithmOf, cryptoKeyOf } from "../../lib/signing-key.ts";
import * as x509 from "../../lib/x509.ts";

export interface TestRequest {
  readonly csr: string;
  readonly key: KeyObject;
}

/** A request in PEM that asks to be `uri`; RSA or P-256. */
export async function makeRequest(uri: string, kind: "ec" | "rsa" | "rsa1024" = "ec"): Promise<TestRequest> {
  const { publicKey, privateKey } =
    kind === "ec"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : generateKeyPairSync("rsa", { modulusLength: kind === "rsa" ? 2048 : 1024 });
  const algorithm = kind === "rsa1024" ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } : algorithmOf(privateKey);
  const keys =
    kind === "rsa1024"
      ? { publicKey: publicKey.toCryptoKey(algorithm, true, ["verify"]), privateKey: privateKey.toCryptoKey(algorithm, true, ["sign"]) }
      : { publicKey: cryptoKeyOf(publicKey), privateKey: cryptoKeyOf(privateKey) };
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: "O=",
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: "url", value: uri }], true)],
  });
  return { csr: request.toString("pem"), key: privateKey };
}

export interface CallOptions {
  readonly port: number;
  /** PEM. */
  readonly root: string;
  readonly token?: string;
  readonly client?: { readonly key: string; readonly chain: string };
}

export function createCertificate(csr: string, ttlSeconds: number, { port, root, token, client }: CallOptions): Promise<string[]> {
  const credentials = ChannelCredentials.createSsl(
    Buffer.from(root),
    client ? Buffer.from(client.key) : null,
    client ? Buffer.from(client.chain) : null,
  );
  const channel = new Client(`127.0.0.1:${port}`, credentials, { "grpc.ssl_target_name_override": "istiod.istio-system.svc" });
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  return new Promise<string[]>((resolve, reject) => {
    channel.makeUnaryRequest<IstioCertificateRequest, IstioCertificateResponse>(
      "/istio.v1.auth.IstioCertificateService/CreateCertificate",
      (value) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
      (bytes) => fromBinary(IstioCertificateResponseSchema, bytes),
      create(IstioCertificateRequestSchema, { csr, validityDuration: BigInt(ttlSeconds) }),
      metadata,
      { deadline: Date.now() + 10_000 },
      (error, response) => (error ? reject(error) : resolve(response!.certChain)),
    );
  }).finally(() => channel.close());
}
