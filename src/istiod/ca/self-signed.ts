/**
 * A root of our own, made at the first start and kept in a directory: `ca-cert.pem`, `ca-key.pem` (0600) and `root-cert.pem`, by the names of Istio's plugged-in files, so that what is there can be taken elsewhere.
 * Source: Istio security/pkg/pki/ca/{ca.go,selfsignedcarootcertrotator.go}.
 */
import { X509Certificate as Certificate, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../api/config-error.ts";
import { splitCertificates } from "../../lib/pem.ts";
import { algorithmOf, cryptoKeyOf, parsePrivateKey } from "../../lib/signing-key.ts";
import { writeWhole } from "../../lib/write-whole.ts";
import type { SigningMaterial } from "./certificate-authority.ts";

const rootLifeMs = 3650 * 24 * 3600_000;
/** A root that has less than this share of its life left is prolonged. */
const renewShare = 0.2;

/** Loads the root that a directory holds or makes one; without a directory it lives as long as the process. */
export async function loadSelfSigned(directory: string | undefined, organization: string): Promise<SigningMaterial> {
  const known = directory ? await load(directory) : undefined;
  if (known && !isDue(known, Date.now())) return known;
  return renewSelfSigned(directory, organization, known);
}

export function isDue({ certificate }: SigningMaterial, now: number): boolean {
  const { validFromDate, validToDate } = new Certificate(certificate);
  const life = validToDate.getTime() - validFromDate.getTime();
  return validToDate.getTime() - now < life * renewShare;
}

/** A new root by the old one's key, which what the old one signed still leads to; both are trusted until the old one ends. */
export async function renewSelfSigned(
  directory: string | undefined,
  organization: string,
  old?: SigningMaterial,
): Promise<SigningMaterial> {
  const key = old?.key ?? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const certificate = await makeRoot(key, organization);
  const now = Date.now();
  const living = (old?.roots ?? []).filter((root) => new Certificate(root).validToDate.getTime() > now);
  const made: SigningMaterial = { certificate, key, intermediates: [], roots: [certificate, ...living] };
  if (directory) await save(directory, made);
  return made;
}

async function makeRoot(key: KeyObject, organization: string): Promise<string> {
  const x509 = await import("../../lib/x509.ts");
  const publicKey = cryptoKeyOf(createPublicKey(key));
  const now = Date.now();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(16).toString("hex"),
    name: [{ O: [organization] }],
    notBefore: new Date(now),
    notAfter: new Date(now + rootLifeMs),
    signingAlgorithm: algorithmOf(key),
    keys: { privateKey: cryptoKeyOf(key), publicKey },
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.BasicConstraintsExtension(true, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return `${root.toString("pem")}\n`;
}

async function load(directory: string): Promise<SigningMaterial | undefined> {
  const read = (name: string) => readFile(join(directory, name), "utf8");
  let key: string;
  try {
    key = await read("ca-key.pem");
  } catch (error) {
    // The key is written last: without it there is no authority yet.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return {
      certificate: await read("ca-cert.pem"),
      key: parsePrivateKey(key),
      intermediates: [],
      roots: splitCertificates(await read("root-cert.pem")),
    };
  } catch (error) {
    throw new ConfigError(`the authority's own files can't be used: ${error instanceof Error ? error.message : String(error)}`, {
      position: { file: join(directory, "ca-key.pem"), line: 1 },
      hint: "restore them from a backup; removing them makes a new root, which no running workload trusts",
      cause: error,
    });
  }
}

async function save(directory: string, { certificate, key, roots }: SigningMaterial): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeWhole(join(directory, "ca-cert.pem"), certificate, 0o644);
  await writeWhole(join(directory, "root-cert.pem"), roots.join(""), 0o644);
  await writeWhole(join(directory, "ca-key.pem"), key.export({ type: "pkcs8", format: "pem" }) as string, 0o600);
}
