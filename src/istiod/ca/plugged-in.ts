/**
 * An authority that the operator brings: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem` and, if wanted, `ca-crl.pem`;
 * or `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes them. From a directory or the Secret `cacerts`.
 * Source: Istio pilot/pkg/bootstrap/istio_ca.go, security/pkg/pki/ca/ca.go.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../api/config-error.ts";
import { splitCertificates } from "../../lib/pem.ts";
import { certificateNumbers, parseRevocationLists, type RevocationLists } from "../../lib/revocation-list.ts";
import { parsePrivateKey } from "../../lib/signing-key.ts";
import { problemOf, type SigningMaterial } from "./certificate-authority.ts";

interface Names {
  readonly certificate: string;
  readonly key: string;
  readonly root: string;
  readonly chain?: string;
  readonly crl?: string;
}

const istioNames: Names = {
  certificate: "ca-cert.pem",
  key: "ca-key.pem",
  root: "root-cert.pem",
  chain: "cert-chain.pem",
  crl: "ca-crl.pem",
};
const tlsNames: Names = { certificate: "tls.crt", key: "tls.key", root: "ca.crt", crl: "ca.crl" };

/** Undefined when the directory holds neither set of files. Throws ConfigError for a set that can't be used. */
export async function loadPluggedIn(directory: string): Promise<SigningMaterial | undefined> {
  const files = new Map<string, string>();
  for (const names of [istioNames, tlsNames]) {
    for (const name of Object.values(names) as string[]) {
      try {
        files.set(name, await readFile(join(directory, name), "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT")
          throw new ConfigError(`can't be read: ${(error as Error).message}`, { position: { file: join(directory, name), line: 1 } });
      }
    }
  }
  return parsePluggedIn(files, (name) => join(directory, name));
}

/** Why nobody could be known by the list: proxies look there for whoever the signing certificate (PEM) has signed. Undefined when they can. */
function revocationProblem(crl: string, certificate: string, nowMs: number): string | undefined {
  let lists: RevocationLists;
  try {
    lists = parseRevocationLists(crl);
  } catch (error) {
    return (error as Error).message;
  }
  const { raw, subject } = new X509Certificate(certificate);
  const list = lists.get(certificateNumbers(raw)?.subject ?? "");
  if (!list) return `holds no revocation list of "${subject}", which signs the certificates`;
  return list.nextUpdateMs < nowMs
    ? `the revocation list of "${subject}" is over since ${new Date(list.nextUpdateMs).toISOString()}`
    : undefined;
}

/** `placeOf` makes a name into what messages call it. */
export function parsePluggedIn(files: ReadonlyMap<string, string>, placeOf: (name: string) => string): SigningMaterial | undefined {
  const names = files.has(istioNames.key) ? istioNames : files.has(tlsNames.key) ? tlsNames : undefined;
  if (!names) return undefined;
  const problem = (name: string, message: string) => new ConfigError(message, { position: { file: placeOf(name), line: 1 } });
  const certificates = (name: string | undefined): string[] => {
    const text = name === undefined ? undefined : files.get(name);
    if (text === undefined) return [];
    const found = splitCertificates(text);
    if (found.length === 0 && text.trim() !== "") throw problem(name!, "holds no certificate in PEM");
    return found;
  };
  const [certificate, ...behind] = certificates(names.certificate);
  if (certificate === undefined) throw problem(names.certificate, "the signing certificate is missing");
  const roots = certificates(names.root);
  if (roots.length === 0) throw problem(names.root, "the root certificate is missing");
  const chain = [certificate, ...(names.chain ? certificates(names.chain) : behind)];
  const isRoot = new Set(roots);
  let material: SigningMaterial;
  try {
    material = {
      certificate,
      key: parsePrivateKey(files.get(names.key)!),
      intermediates: [...new Set(chain)].filter((one) => !isRoot.has(one)),
      roots,
      ...(names.crl && files.get(names.crl) ? { crl: files.get(names.crl)! } : {}),
    };
  } catch (error) {
    throw problem(names.key, error instanceof Error ? error.message : String(error));
  }
  const reason = problemOf(material, Date.now());
  if (reason) throw problem(names.certificate, reason);
  const listReason = material.crl === undefined ? undefined : revocationProblem(material.crl, certificate, Date.now());
  if (listReason) throw problem(names.crl!, listReason);
  return material;
}
