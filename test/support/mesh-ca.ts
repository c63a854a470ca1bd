/** A mesh's certificate authority for tests: openssl, P-256. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

export interface IssueOptions {
  readonly algorithm?: "ec" | "rsa";
  /** The certificate says of itself that it is nothing without an OCSP response. */
  readonly mustStaple?: boolean;
  /** Default 30. */
  readonly days?: number;
  /** Where its revocation list would be. */
  readonly revocationUrl?: string;
}

export interface MeshCa {
  readonly root: string;
  /** What it signs with. */
  readonly signing: Identity;
  /** A workload's certificate for the identity, which any text may be. */
  issue(uri: string): Identity;
  /** A certificate for other names, as openssl writes them: `DNS:a.test`. */
  issueFor(names: string, options?: IssueOptions): Identity;
  /** An OCSP response, as DER, which says that the certificates are good for five days. */
  ocspResponse(...identities: readonly Identity[]): Buffer;
  /** A revocation list with the certificates in it. */
  revoke(...identities: Identity[]): string;
  /** An authority that this one has signed; what it issues comes with its certificate behind. */
  intermediate(name: string): MeshCa;
}

const algorithms = { ec: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], rsa: ["-newkey", "rsa:2048"] };

export function makeMeshCa(name = "mesh"): MeshCa {
  return authority(request(caArguments(name), "ec"));
}

function caArguments(name: string): string[] {
  return ["-days", "365", "-subj", `/O=${name}`, "-addext", "basicConstraints=critical,CA:TRUE"];
}

/** `behind`: certificates that go with each that it issues. */
function authority(ca: Identity, root = ca.certificate, behind = ""): MeshCa {
  const issueFor: MeshCa["issueFor"] = (names, { algorithm = "ec", mustStaple, days = 30, revocationUrl } = {}) => {
    const extensions = [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature,keyEncipherment",
      "extendedKeyUsage=serverAuth,clientAuth",
      `subjectAltName=critical,${names}`,
    ];
    if (mustStaple) extensions.push("tlsfeature=status_request");
    if (revocationUrl) extensions.push(`crlDistributionPoints=URI:${revocationUrl}`);
    const named = ["-days", String(days), "-subj", "/", ...extensions.flatMap((extension) => ["-addext", extension])];
    const { certificate, key } = request(named, algorithm, ca);
    return { certificate: certificate + behind, key };
  };
  return {
    root,
    signing: ca,
    issue: (uri) => issueFor(`URI:${uri}`),
    issueFor,
    ocspResponse: (...identities) => ocspResponse(ca, identities),
    revoke: (...identities) => revocationList(ca, identities),
    intermediate: (name) => {
      const signed = request(caArguments(name), "ec", ca);
      return authority(signed, root, signed.certificate + behind);
    },
  };
}

function request(args: readonly string[], algorithm: keyof typeof algorithms, issuer?: Identity): Identity {
  return inDirectory((path) => {
    if (issuer) {
      writeFileSync(path("ca.pem"), issuer.certificate);
      writeFileSync(path("ca-key.pem"), issuer.key);
    }
    const signer = issuer ? ["-CA", path("ca.pem"), "-CAkey", path("ca-key.pem")] : [];
    const files = ["-keyout", path("key.pem"), "-out", path("cert.pem")];
    openssl(["req", "-x509", "-nodes", ...algorithms[algorithm], ...signer, ...args, ...files]);
    return { certificate: readFileSync(path("cert.pem"), "utf8"), key: readFileSync(path("key.pem"), "utf8") };
  });
}

function revocationList(ca: Identity, identities: readonly Identity[]): string {
  return inDirectory((path) => {
    const settings = ["[ca]", "default_ca=d", "[d]", `database=${path("index")}`, "default_md=sha256", "default_crl_days=30"];
    writeFileSync(path("index"), "");
    writeFileSync(path("config"), settings.join("\n"));
    for (const [name, text] of Object.entries({ ca: ca.certificate, key: ca.key })) writeFileSync(path(name), text);
    const signed = ["ca", "-config", path("config"), "-cert", path("ca"), "-keyfile", path("key")];
    for (const { certificate } of identities) {
      writeFileSync(path("cert"), certificate);
      openssl([...signed, "-revoke", path("cert")]);
    }
    openssl([...signed, "-gencrl", "-out", path("crl")]);
    return readFileSync(path("crl"), "utf8");
  });
}

function ocspResponse(ca: Identity, identities: readonly Identity[]): Buffer {
  return inDirectory((path) => {
    for (const [name, text] of Object.entries({ ca: ca.certificate, key: ca.key })) writeFileSync(path(name), text);
    const asked = identities.flatMap(({ certificate }, index) => {
      writeFileSync(path(`cert-${index}`), certificate);
      return ["-cert", path(`cert-${index}`)];
    });
    const index = identities.map(
      ({ certificate }, number) => `V\t991231235959Z\t\t${new X509Certificate(certificate).serialNumber}\tunknown\t/CN=${number}`,
    );
    writeFileSync(path("index"), `${index.join("\n")}\n`);
    const signer = ["-CA", path("ca"), "-rsigner", path("ca"), "-rkey", path("key"), "-index", path("index")];
    openssl(["ocsp", "-issuer", path("ca"), ...asked, ...signer, "-ndays", "5", "-noverify", "-respout", path("response")]);
    return readFileSync(path("response"));
  });
}

function inDirectory<T>(work: (path: (name: string) => string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), "topsail-ca-"));
  try {
    return work((name) => join(directory, name));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function openssl(args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}
