/** A mesh's certificate authority for tests: openssl, P-256. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

export interface MeshCa {
  readonly root: string;
  /** A workload's certificate for the identity, which any text may be. */
  issue(uri: string): Identity;
}

const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];

export function makeMeshCa(name = "mesh"): MeshCa {
  const ca = openssl(["-subj", `/O=${name}`, "-addext", "basicConstraints=critical,CA:TRUE"]);
  return {
    root: ca.certificate,
    issue(uri) {
      const extensions = [
        "basicConstraints=critical,CA:FALSE",
        "extendedKeyUsage=serverAuth,clientAuth",
        `subjectAltName=critical,URI:${uri}`,
      ];
      return openssl(["-subj", "/", ...extensions.flatMap((extension) => ["-addext", extension])], ca);
    },
  };
}

function openssl(args: readonly string[], issuer?: Identity): Identity {
  const directory = mkdtempSync(join(tmpdir(), "topsail-ca-"));
  try {
    const path = (name: string) => join(directory, name);
    if (issuer) {
      writeFileSync(path("ca.pem"), issuer.certificate);
      writeFileSync(path("ca-key.pem"), issuer.key);
    }
    const signer = issuer ? ["-CA", path("ca.pem"), "-CAkey", path("ca-key.pem")] : [];
    execFileSync("openssl", [...request, ...signer, ...args, "-keyout", path("key.pem"), "-out", path("cert.pem")], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    return { certificate: readFileSync(path("cert.pem"), "utf8"), key: readFileSync(path("key.pem"), "utf8") };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
