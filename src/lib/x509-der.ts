/**
 * What certificates and requests for them are made of (RFC 5280, RFC 2986), byte by byte. A library that can write any of them takes ten
 * times as long for one, and as much memory as the rest of an agent's own code.
 */
import { type KeyObject, sign } from "node:crypto";
import { promisify } from "node:util";
import { contextTag, derTag, writeDer, writeObjectIdentifier } from "./der.ts";
import { parseIp } from "./ip-range.ts";
import { algorithmOf } from "./signing-key.ts";

/** Whose certificate it is: a workload by its URI, a server of the control plane by its names as well. */
export interface AlternativeName {
  readonly type: "url" | "dns" | "ip";
  readonly value: string;
}

/** Distinguished name, for those who are known by that: users of the API. */
export interface Name {
  readonly CN?: string;
  readonly O?: string;
}

export interface Signer {
  readonly key: KeyObject;
  readonly hash: string;
  /** AlgorithmIdentifier. */
  readonly algorithm: Buffer;
  readonly isSlow: boolean;
}

const signAside = promisify(sign);

export const sequence = (...parts: readonly Uint8Array[]): Buffer => writeDer(derTag.sequence, ...parts);

const algorithms = {
  "P-256": { hash: "sha256", algorithm: sequence(writeObjectIdentifier("1.2.840.10045.4.3.2")) },
  "P-384": { hash: "sha384", algorithm: sequence(writeObjectIdentifier("1.2.840.10045.4.3.3")) },
  rsa: { hash: "sha256", algorithm: sequence(writeObjectIdentifier("1.2.840.113549.1.1.11"), writeDer(derTag.null)) },
};

/** Throws KeyError for a key of a kind that nobody signs with here. */
export function signerOf(key: KeyObject): Signer {
  const algorithm = algorithmOf(key);
  const kind = algorithm.name === "ECDSA" ? algorithm.namedCurve : "rsa";
  return { key, ...algorithms[kind], isSlow: kind === "rsa" };
}

/** `SEQUENCE { toBeSigned, algorithm, BIT STRING }`: what both a certificate and a request are. */
export async function signed({ key, hash, algorithm, isSlow }: Signer, toBeSigned: Buffer): Promise<Buffer> {
  // With an RSA key it takes milliseconds, which are left to another thread; with any other less than to hand it over.
  const signature = isSlow ? await signAside(hash, toBeSigned, key) : sign(hash, toBeSigned, key);
  return sequence(toBeSigned, algorithm, writeDer(derTag.bitString, Buffer.from([0]), signature));
}

const isCritical = writeDer(derTag.boolean, Buffer.from([0xff]));

export function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(writeObjectIdentifier(id), ...(critical ? [isCritical] : []), writeDer(derTag.octetString, value));
}

/** Critical: of a workload there is no subject beside it. */
export function subjectAlternativeNames(names: readonly AlternativeName[]): Buffer {
  return extension("2.5.29.17", sequence(...names.map(generalName)), true);
}

const attributeIds: Readonly<Record<keyof Name, Buffer>> = {
  CN: writeObjectIdentifier("2.5.4.3"),
  O: writeObjectIdentifier("2.5.4.10"),
};

export function distinguishedName(name: Name): Buffer {
  const attributes = (Object.entries(name) as [keyof Name, string][]).map(([attribute, value]) =>
    writeDer(derTag.set, sequence(attributeIds[attribute], writeDer(derTag.utf8String, Buffer.from(value)))),
  );
  return sequence(...attributes);
}

function generalName({ type, value }: AlternativeName): Buffer {
  switch (type) {
    case "dns":
      return writeDer(contextTag(2, "primitive"), Buffer.from(value, "latin1"));
    case "url":
      return writeDer(contextTag(6, "primitive"), Buffer.from(value, "latin1"));
    case "ip":
      return writeDer(contextTag(7, "primitive"), octetsOf(value));
    default:
      return type satisfies never;
  }
}

function octetsOf(address: string): Buffer {
  return Buffer.concat(parseIp(address)!.map((word) => Buffer.from(Uint32Array.of(word).buffer).swap32()));
}
