/** Keys as WebCrypto and certificates want them: RSA from 2048 bits on, ECDSA on P-256 and P-384. */
import { createPrivateKey, type KeyObject, type webcrypto } from "node:crypto";

export type SigningAlgorithm =
  | { readonly name: "RSASSA-PKCS1-v1_5"; readonly hash: "SHA-256" }
  | { readonly name: "ECDSA"; readonly namedCurve: "P-256" | "P-384"; readonly hash: "SHA-256" | "SHA-384" };

const p256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const p384 = { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" } as const;
const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as const;

export class KeyError extends Error {
  override readonly name = "KeyError";
}

/** Which algorithm a key signs with; throws KeyError for a kind or a strength that is not accepted. */
export function algorithmOf(key: KeyObject): SigningAlgorithm {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "ec":
      if (namedCurve === "prime256v1") return p256;
      if (namedCurve === "secp384r1") return p384;
      throw new KeyError(`the key's curve ${namedCurve} is not supported: P-256 or P-384`);
    case "rsa":
      if (modulusLength < 2048) throw new KeyError(`an RSA key of ${modulusLength} bits is too short: 2048 at least`);
      if (modulusLength > 8192) throw new KeyError(`an RSA key of ${modulusLength} bits is too long: 8192 at most`);
      return rsa;
    default:
      throw new KeyError(`a key of type ${key.asymmetricKeyType} is not supported: RSA or ECDSA`);
  }
}

/** Reads PKCS #8, PKCS #1 and SEC 1. Throws KeyError; its message never holds any of the text. */
export function parsePrivateKey(pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new KeyError("the text is no private key in PEM, or it needs a passphrase");
  }
  algorithmOf(key);
  return key;
}

export function cryptoKeyOf(key: KeyObject): webcrypto.CryptoKey {
  // A public key is to be copied into certificates; a private one stays where it is.
  return key.toCryptoKey(algorithmOf(key), key.type === "public", [key.type === "private" ? "sign" : "verify"]);
}
