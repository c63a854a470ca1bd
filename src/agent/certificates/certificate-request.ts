/** A key of the workload's own and the request to sign it. The key leaves this process for the proxy alone. */
import { createPublicKey, generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { algorithmOf, cryptoKeyOf } from "../../lib/signing-key.ts";

/** Istio WORKLOAD_RSA_KEY_SIZE, ECC_SIGNATURE_ALGORITHM and ECC_CURVE. */
export type KeyKind = { readonly type: "ec"; readonly curve: "P-256" | "P-384" } | { readonly type: "rsa"; readonly bits: number };

export interface CertificateRequest {
  /** PKCS #10, PEM. */
  readonly csr: string;
  /** PKCS #8, PEM. */
  readonly privateKey: string;
}

const generate = promisify(generateKeyPair);

/** `uri`: who the workload says it is; the authority decides by itself. */
export async function makeCertificateRequest(uri: string, kind: KeyKind): Promise<CertificateRequest> {
  const x509 = await import("../../lib/x509.ts");
  const { privateKey } =
    kind.type === "ec"
      ? await generate("ec", { namedCurve: kind.curve })
      : await generate("rsa", { modulusLength: kind.bits, publicExponent: 0x10001 });
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: "O=",
    keys: {
      privateKey: cryptoKeyOf(privateKey),
      publicKey: cryptoKeyOf(createPublicKey(privateKey)),
    },
    signingAlgorithm: algorithmOf(privateKey),
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: "url", value: uri }], true)],
  });
  return { csr: request.toString("pem"), privateKey: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
}
