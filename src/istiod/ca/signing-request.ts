/**
 * A certificate request, PKCS #10 (RFC 2986), as far as an authority looks at it: which key is to be signed, and that whoever asks has it.
 *
 *   SEQUENCE { SEQUENCE { version, subject, key, attributes }, SEQUENCE { algorithm }, BIT STRING signature of the first }
 */
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { derTag, readDer, readDerList } from "../../lib/der.ts";

/** OID's content in hex: ecdsa-with-SHA2 (RFC 5758), sha2WithRSAEncryption (RFC 4055). */
const algorithms: Readonly<Record<string, { readonly keyType: "ec" | "rsa"; readonly hash: string }>> = {
  "2a8648ce3d040302": { keyType: "ec", hash: "sha256" },
  "2a8648ce3d040303": { keyType: "ec", hash: "sha384" },
  "2a8648ce3d040304": { keyType: "ec", hash: "sha512" },
  "2a864886f70d01010b": { keyType: "rsa", hash: "sha256" },
  "2a864886f70d01010c": { keyType: "rsa", hash: "sha384" },
  "2a864886f70d01010d": { keyType: "rsa", hash: "sha512" },
};
const block = /-----BEGIN (?<label>(?:NEW )?CERTIFICATE REQUEST)-----(?<text>[A-Za-z0-9+/=\s]+)-----END \k<label>-----/;

/** The key of a request in PEM. Throws an Error that says what is wrong with the request. */
export function keyOfRequest(pem: string): KeyObject {
  const text = block.exec(pem)?.groups?.text;
  if (text === undefined) throw new Error("it is no PEM of a certificate request");
  const bytes = Buffer.from(text, "base64");
  const whole = readDer(bytes, 0);
  const parts = whole?.tag === derTag.sequence && whole.end === bytes.length ? readDerList(whole.content) : null;
  const [info, algorithm, signature] = parts ?? [];
  if (parts?.length !== 3 || info?.tag !== derTag.sequence || algorithm?.tag !== derTag.sequence || signature?.tag !== derTag.bitString)
    throw new Error("it is no PKCS #10");
  const [version, subject, key] = readDerList(info.content) ?? [];
  if (version?.tag !== derTag.integer || subject?.tag !== derTag.sequence || key?.tag !== derTag.sequence)
    throw new Error("it is no PKCS #10");
  const name = readDer(algorithm.content, 0)?.content.toString("hex") ?? "";
  const known = Object.hasOwn(algorithms, name) ? algorithms[name] : undefined;
  if (!known) throw new Error("its signature is of a kind that is not supported: ECDSA or RSA with SHA-2");
  const publicKey = createPublicKey({ key: info.content.subarray(subject.end, key.end), format: "der", type: "spki" });
  const signed = whole!.content.subarray(0, info.end);
  // A bit string begins with the number of bits that do not count, of which a signature has none.
  const isOwn =
    publicKey.asymmetricKeyType === known.keyType &&
    signature.content[0] === 0 &&
    verify(known.hash, signed, publicKey, signature.content.subarray(1));
  if (!isOwn) throw new Error("its signature is not by its own key");
  return publicKey;
}
