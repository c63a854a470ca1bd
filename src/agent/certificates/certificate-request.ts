/**
 * A key of the workload's own and the request to sign it (RFC 2986). The key leaves this process for the proxy alone.
 *
 *   SEQUENCE { SEQUENCE { version, subject, key, [0] { extension request { names } } }, algorithm, BIT STRING signature of the first }
 */
import { createPublicKey, generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { contextTag, derTag, writeDer, writeObjectIdentifier } from "../../lib/der.ts";
import { writePem } from "../../lib/pem.ts";
import { distinguishedName, sequence, signed, signerOf, subjectAlternativeNames } from "../../lib/x509-der.ts";

/** Istio WORKLOAD_RSA_KEY_SIZE, ECC_SIGNATURE_ALGORITHM and ECC_CURVE. */
export type KeyKind = { readonly type: "ec"; readonly curve: "P-256" | "P-384" } | { readonly type: "rsa"; readonly bits: number };

export interface CertificateRequest {
  /** PKCS #10, PEM. */
  readonly csr: string;
  /** PKCS #8, PEM. */
  readonly privateKey: string;
}

const generate = promisify(generateKeyPair);

const version1 = writeDer(derTag.integer, Buffer.from([0]));
const extensionRequest = writeObjectIdentifier("1.2.840.113549.1.9.14");

/** `uri`: who the workload says it is; the authority decides by itself. */
export async function makeCertificateRequest(uri: string, kind: KeyKind): Promise<CertificateRequest> {
  const { privateKey } =
    kind.type === "ec"
      ? await generate("ec", { namedCurve: kind.curve })
      : await generate("rsa", { modulusLength: kind.bits, publicExponent: 0x10001 });
  const toBeSigned = sequence(
    version1,
    // What Istio's agent sends: an organization without a name.
    distinguishedName({ O: "" }),
    createPublicKey(privateKey).export({ type: "spki", format: "der" }),
    writeDer(
      contextTag(0, "constructed"),
      sequence(extensionRequest, writeDer(derTag.set, sequence(subjectAlternativeNames([{ type: "url", value: uri }])))),
    ),
  );
  const csr = writePem("CERTIFICATE REQUEST", await signed(signerOf(privateKey), toBeSigned));
  return { csr, privateKey: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
}
