/** A certificate with its key, as text, and what holds for it. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { splitCertificates } from "../../lib/pem.ts";

export interface KeyPair {
  /** PEM: the certificate, then its intermediates. */
  readonly chain: string;
  /** PEM. */
  readonly privateKey: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Throws when the texts are no certificate and key, or do not belong together; the message holds none of the key. */
export function keyPairOf(chain: string, privateKey: string): KeyPair {
  const certificate = new X509Certificate(chain);
  let belongs: boolean;
  try {
    belongs = certificate.checkPrivateKey(createPrivateKey(privateKey));
  } catch {
    throw new Error("the private key can't be read");
  }
  if (!belongs) throw new Error("the private key does not belong to the certificate");
  return { chain, privateKey, notBefore: certificate.validFromDate, notAfter: certificate.validToDate };
}

export const pairFiles = { chain: "cert-chain.pem", privateKey: "key.pem", root: "root-cert.pem" } as const;

/** Paths. */
export interface PairFiles {
  readonly chain: string;
  readonly privateKey: string;
}

export interface CertificateFiles extends PairFiles {
  readonly root: string;
}

/** Of a directory, by Istio's names unless there are others. */
export function filesIn(directory: string, names: CertificateFiles = pairFiles): CertificateFiles {
  return { chain: join(directory, names.chain), privateKey: join(directory, names.privateKey), root: join(directory, names.root) };
}

/** Undefined when files are missing, unusable or the certificate is over; `onUnusable` is told why, unless they are just not there. */
export async function readValidPair(files: PairFiles, onUnusable?: (reason: string) => void): Promise<KeyPair | undefined> {
  try {
    const [chain, key] = await Promise.all([readFile(files.chain, "utf8"), readFile(files.privateKey, "utf8")]);
    const pair = keyPairOf(chain, key);
    if (pair.notAfter.getTime() > Date.now()) return pair;
    onUnusable?.(`it ended at ${pair.notAfter.toISOString()}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") onUnusable?.(error instanceof Error ? error.message : String(error));
  }
  return undefined;
}

/** Whether who trusts these roots (PEM) trusts the pair: its certificates lead to one of them. Throws for what is no certificate. */
export function leadsTo({ chain }: Pick<KeyPair, "chain">, roots: string): boolean {
  const anchors = splitCertificates(roots).map((root) => new X509Certificate(root));
  const links = splitCertificates(chain).map((link) => new X509Certificate(link));
  for (const [index, link] of links.entries()) {
    if (anchors.some((anchor) => isIssuedBy(link, anchor))) return true;
    const issuer = links[index + 1];
    if (!issuer || !isIssuedBy(link, issuer)) return false;
  }
  return false;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
