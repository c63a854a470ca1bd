/** Certificates for tests, made by openssl. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** Self-signed, P-256. The first name is the subject's, all are DNS names. */
export function makeCertificate(...names: readonly [string, ...string[]]): TestCertificate {
  const directory = mkdtempSync(join(tmpdir(), "topsail-cert-"));
  try {
    const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    const subject = ["-subj", `/CN=${names[0]}`, "-addext", `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`];
    execFileSync("openssl", [...request, ...subject, "-keyout", key, "-out", certificate], { stdio: "ignore" });
    return { certificate: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8") };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
