/** Certificates for tests, made by openssl. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestCertificate {
  readonly certificate: string;
  readonly key: string;
}

const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];

/** Self-signed, P-256. The first name is the subject's, all are DNS names. */
export function makeCertificate(...names: readonly [string, ...string[]]): TestCertificate {
  const san = `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`;
  return inDirectory((directory) => openssl(directory, [...request, "-subj", `/CN=${names[0]}`, "-addext", san]));
}

export interface ClientCertificateOptions {
  /** As openssl takes it, `/O=Org/CN=name`; "/" is empty. */
  readonly subject: string;
  /** As openssl takes them, `URI:spiffe://a/b`. */
  readonly names?: readonly string[];
  readonly issuer: TestCertificate;
}

/** A client's, signed by `issuer`, which may be any of `makeCertificate`. */
export function makeClientCertificate({ subject, names = [], issuer }: ClientCertificateOptions): TestCertificate {
  return inDirectory((directory) => {
    const [certificate, key] = [join(directory, "ca.crt"), join(directory, "ca.key")];
    writeFileSync(certificate, issuer.certificate);
    writeFileSync(key, issuer.key);
    const extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"];
    // RFC 5280 4.1.2.6: a certificate without a subject has its names in a critical extension.
    if (names.length > 0) extensions.push(`subjectAltName=${subject === "/" ? "critical," : ""}${names.join(",")}`);
    const added = extensions.flatMap((extension) => ["-addext", extension]);
    return openssl(directory, [...request, "-CA", certificate, "-CAkey", key, "-subj", subject, ...added]);
  });
}

function inDirectory<T>(work: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), "topsail-cert-"));
  try {
    return work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function openssl(directory: string, args: readonly string[]): TestCertificate {
  const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  execFileSync("openssl", [...args, "-keyout", key, "-out", certificate], { stdio: ["ignore", "ignore", "pipe"] });
  return { certificate: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8") };
}
