/**
 * An X.509 certificate of a workload, a server or a user (RFC 5280), written byte by byte: of hundreds of machines that join at once each
 * waits for the ones before it.
 *
 *   SEQUENCE { SEQUENCE { version, serial, algorithm, issuer, validity, subject, key, extensions }, algorithm, BIT STRING signature of the first }
 */
import { createHash, type KeyObject, randomBytes, type X509Certificate } from "node:crypto";
import { contextTag, derTag, readDer, readDerList, writeDer, writeObjectIdentifier, writeTime } from "../../lib/der.ts";
import { writePem } from "../../lib/pem.ts";
import {
  type AlternativeName,
  distinguishedName,
  extension,
  type Name,
  type Signer,
  sequence,
  signed,
  signerOf,
  subjectAlternativeNames,
} from "../../lib/x509-der.ts";

export interface EndEntity {
  readonly publicKey: KeyObject;
  readonly subject: Name;
  readonly alternativeNames: readonly AlternativeName[];
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** What all certificates of one issuer have in common. */
export interface Issuer extends Signer {
  readonly name: Buffer;
  readonly authorityKeyId: Buffer;
}

const version3 = writeDer(contextTag(0, "constructed"), writeDer(derTag.integer, Buffer.from([2])));
const subjectKeyIdId = writeObjectIdentifier("2.5.29.14");

const usualExtensions = Buffer.concat([
  // digitalSignature and keyEncipherment: the first and the third of the bits, five of the octet unused.
  extension("2.5.29.15", writeDer(derTag.bitString, Buffer.from([5, 0xa0])), true),
  // serverAuth, clientAuth
  extension("2.5.29.37", sequence(writeObjectIdentifier("1.3.6.1.5.5.7.3.1"), writeObjectIdentifier("1.3.6.1.5.5.7.3.2"))),
  // No authority, which is what basic constraints say by default.
  extension("2.5.29.19", sequence(), true),
]);

/** Throws KeyError for a key of a kind that nobody signs with here. */
export function readIssuer(certificate: X509Certificate, key: KeyObject): Issuer {
  const { subject, publicKey, extensions } = partsOf(certificate.raw);
  const keyId = subjectKeyIdOf(extensions) ?? hashOfKey(publicKey);
  return {
    ...signerOf(key),
    name: subject,
    authorityKeyId: extension("2.5.29.35", sequence(writeDer(contextTag(0, "primitive"), keyId))),
  };
}

/** PEM. */
export async function makeEndEntityCertificate(issuer: Issuer, entity: EndEntity): Promise<string> {
  const { publicKey, subject, alternativeNames, notBefore, notAfter } = entity;
  const extensions = [usualExtensions, issuer.authorityKeyId];
  if (alternativeNames.length > 0) extensions.push(subjectAlternativeNames(alternativeNames));
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
  return writePem("CERTIFICATE", await signed(issuer, toBeSigned));
}

/** 126 bits by chance, positive and without leading zeros. */
function randomSerial(): Buffer {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial;
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
