/**
 * An X.509 certificate of a workload, a server or a user (RFC 5280), written byte by byte: of hundreds of machines that join at once each
 * waits for the ones before it, and a library that can write any certificate takes ten times as long for one.
 *
 *   SEQUENCE { SEQUENCE { version, serial, algorithm, issuer, validity, subject, key, extensions }, algorithm, BIT STRING signature of the first }
 */
import { createHash, type KeyObject, randomBytes, sign, type X509Certificate } from "node:crypto";
import { promisify } from "node:util";
import { contextTag, derTag, readDer, readDerList, writeDer, writeObjectIdentifier, writeTime } from "../../lib/der.ts";
import { parseIp } from "../../lib/ip-range.ts";
import { algorithmOf } from "../../lib/signing-key.ts";

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

export interface EndEntity {
  readonly publicKey: KeyObject;
  readonly subject: Name;
  readonly alternativeNames: readonly AlternativeName[];
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** What all certificates of one issuer have in common. */
export interface Issuer {
  readonly key: KeyObject;
  readonly hash: string;
  readonly algorithm: Buffer;
  readonly name: Buffer;
  readonly authorityKeyId: Buffer;
  readonly isSlow: boolean;
}

const signAside = promisify(sign);
const sequence = (...parts: readonly Uint8Array[]) => writeDer(derTag.sequence, ...parts);
const utf8 = (text: string) => writeDer(derTag.utf8String, Buffer.from(text));

const version3 = writeDer(contextTag(0, "constructed"), writeDer(derTag.integer, Buffer.from([2])));
const isCritical = writeDer(derTag.boolean, Buffer.from([0xff]));
const attributeIds: Readonly<Record<keyof Name, Buffer>> = {
  CN: writeObjectIdentifier("2.5.4.3"),
  O: writeObjectIdentifier("2.5.4.10"),
};
const subjectAltNameId = writeObjectIdentifier("2.5.29.17");
const authorityKeyIdId = writeObjectIdentifier("2.5.29.35");
const subjectKeyIdId = writeObjectIdentifier("2.5.29.14");

function extension(id: Buffer, value: Buffer, critical = false): Buffer {
  return sequence(id, ...(critical ? [isCritical] : []), writeDer(derTag.octetString, value));
}

const usualExtensions = Buffer.concat([
  // digitalSignature and keyEncipherment: the first and the third of the bits, five of the octet unused.
  extension(writeObjectIdentifier("2.5.29.15"), writeDer(derTag.bitString, Buffer.from([5, 0xa0])), true),
  // serverAuth, clientAuth
  extension(
    writeObjectIdentifier("2.5.29.37"),
    sequence(writeObjectIdentifier("1.3.6.1.5.5.7.3.1"), writeObjectIdentifier("1.3.6.1.5.5.7.3.2")),
  ),
  // No authority, which is what basic constraints say by default.
  extension(writeObjectIdentifier("2.5.29.19"), sequence(), true),
]);

const algorithms = {
  "P-256": { hash: "sha256", algorithm: sequence(writeObjectIdentifier("1.2.840.10045.4.3.2")) },
  "P-384": { hash: "sha384", algorithm: sequence(writeObjectIdentifier("1.2.840.10045.4.3.3")) },
  rsa: { hash: "sha256", algorithm: sequence(writeObjectIdentifier("1.2.840.113549.1.1.11"), writeDer(derTag.null)) },
};

/** Throws KeyError for a key of a kind that nobody signs with here. */
export function readIssuer(certificate: X509Certificate, key: KeyObject): Issuer {
  const algorithm = algorithmOf(key);
  const kind = algorithm.name === "ECDSA" ? algorithm.namedCurve : "rsa";
  const { subject, publicKey, extensions } = partsOf(certificate.raw);
  const keyId = subjectKeyIdOf(extensions) ?? hashOfKey(publicKey);
  return {
    key,
    ...algorithms[kind],
    name: subject,
    authorityKeyId: extension(authorityKeyIdId, sequence(writeDer(contextTag(0, "primitive"), keyId))),
    isSlow: kind === "rsa",
  };
}

/** PEM. */
export async function makeEndEntityCertificate(issuer: Issuer, entity: EndEntity): Promise<string> {
  const { publicKey, subject, alternativeNames, notBefore, notAfter } = entity;
  const extensions = [usualExtensions, issuer.authorityKeyId];
  // Critical: of a workload there is no subject beside it.
  if (alternativeNames.length > 0) extensions.push(extension(subjectAltNameId, sequence(...alternativeNames.map(generalName)), true));
  const toBeSigned = sequence(
    version3,
    writeDer(derTag.integer, randomSerial()),
    issuer.algorithm,
    issuer.name,
    sequence(writeTime(notBefore), writeTime(notAfter)),
    distinguishedName(subject),
    publicKey.export({ type: "spki", format: "der" }),
    writeDer(contextTag(3, "constructed"), sequence(...extensions)),
  );
  // With an RSA key it takes milliseconds, which are left to another thread; with any other less than to hand it over.
  const signature = issuer.isSlow ? await signAside(issuer.hash, toBeSigned, issuer.key) : sign(issuer.hash, toBeSigned, issuer.key);
  const whole = sequence(toBeSigned, issuer.algorithm, writeDer(derTag.bitString, Buffer.from([0]), signature));
  return `-----BEGIN CERTIFICATE-----\n${whole.toString("base64").replaceAll(/.{64}(?=.)/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
}

/** 126 bits by chance, positive and without leading zeros. */
function randomSerial(): Buffer {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial;
}

function distinguishedName(name: Name): Buffer {
  const attributes = (Object.entries(name) as [keyof Name, string][]).map(([attribute, value]) =>
    writeDer(derTag.set, sequence(attributeIds[attribute], utf8(value))),
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

interface CertificateParts {
  /** Whole elements. */
  readonly subject: Buffer;
  readonly publicKey: Buffer;
  /** What is within `[3]`. */
  readonly extensions: Buffer;
}

/** `der`: of a certificate that node:crypto has read. */
function partsOf(der: Buffer): CertificateParts {
  const { content } = readDer(readDer(der, 0)!.content, 0)!;
  const elements = readDerList(content)!;
  // Of version 1 there is no first element that says so.
  const first = elements[0]!.tag === contextTag(0, "constructed") ? 1 : 0;
  const whole = (index: number) => content.subarray(elements[first + index - 1]!.end, elements[first + index]!.end);
  const extensions = elements.find(({ tag }) => tag === contextTag(3, "constructed"))?.content ?? Buffer.alloc(0);
  return { subject: whole(4), publicKey: whole(5), extensions };
}

function subjectKeyIdOf(extensions: Buffer): Buffer | undefined {
  for (const { content } of readDerList(readDer(extensions, 0)?.content ?? extensions) ?? []) {
    if (!content.subarray(0, subjectKeyIdId.length).equals(subjectKeyIdId)) continue;
    const value = readDerList(content)?.at(-1)?.content;
    return value && readDer(value, 0)?.content;
  }
  return undefined;
}

/** What an identifier of a key usually is (RFC 5280 4.2.1.2): of the bits of the key alone. */
function hashOfKey(publicKey: Buffer): Buffer {
  const bits = readDerList(readDer(publicKey, 0)!.content)![1]!.content;
  return createHash("sha1").update(bits.subarray(1)).digest();
}
