import { execFileSync } from "node:child_process";
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EndEntity, makeEndEntityCertificate, readIssuer } from "./end-entity-certificate.ts";

describe("makeEndEntityCertificate", () => {
  let directory: string;
  let publicKey: KeyObject;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-certificate-"));
    publicKey = createKey("leaf", "prime256v1");
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const openssl = (...args: readonly string[]) => execFileSync("openssl", args, { cwd: directory, encoding: "utf8", stdio: "pipe" });

  function createKey(name: string, curve: string): KeyObject {
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", `ec_paramgen_curve:${curve}`, "-out", `${name}.pem`);
    return createPublicKey(readFileSync(join(directory, `${name}.pem`)));
  }

  /** An authority as openssl makes it. */
  function makeIssuer(keyArgs: readonly string[], keyIdentifier: string) {
    const extension = ["-addext", `subjectKeyIdentifier=${keyIdentifier}`, "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    const files = ["-keyout", "ca-key.pem", "-out", "ca.pem"];
    openssl("req", "-x509", "-nodes", "-days", "3650", "-subj", "/O=Mesh/CN=root \u00e9", "-utf8", ...keyArgs, ...extension, ...files);
    const read = (name: string) => readFileSync(join(directory, name), "utf8");
    return readIssuer(new X509Certificate(read("ca.pem")), createPrivateKey(read("ca-key.pem")));
  }

  const ec = (curve: string) => ["-newkey", "ec", "-pkeyopt", `ec_paramgen_curve:${curve}`];
  const entity = (changes: Partial<EndEntity> = {}): EndEntity => ({
    publicKey,
    subject: {},
    alternativeNames: [{ type: "url", value: "spiffe://cluster.local/ns/default/sa/ratings" }],
    notBefore: new Date("2026-01-02T03:04:05.678Z"),
    notAfter: new Date("2035-01-02T03:04:05Z"),
    ...changes,
  });
  async function make(issuer: ReturnType<typeof readIssuer>, changes: Partial<EndEntity> = {}) {
    const pem = await makeEndEntityCertificate(issuer, entity(changes));
    writeFileSync(join(directory, "leaf-cert.pem"), pem);
    return { pem, certificate: new X509Certificate(pem), text: openssl("x509", "-in", "leaf-cert.pem", "-noout", "-text") };
  }

  it.each([
    ["P-256", ec("prime256v1"), "ecdsa-with-SHA256"],
    ["P-384", ec("secp384r1"), "ecdsa-with-SHA384"],
    ["RSA", ["-newkey", "rsa:2048"], "sha256WithRSAEncryption"],
  ])("is taken by openssl at its strictest from an authority with %s", async (_, keyArgs, algorithm) => {
    const { text, certificate } = await make(makeIssuer(keyArgs, "hash"));
    const at = ["-attime", String(Date.parse("2030-01-01") / 1000)];
    expect(openssl("verify", "-x509_strict", "-purpose", "sslserver", ...at, "-CAfile", "ca.pem", "leaf-cert.pem")).toContain("OK");
    expect(text.match(/Signature Algorithm: (\S+)/g)).toEqual(Array(2).fill(`Signature Algorithm: ${algorithm}`));
    expect(certificate.ca).toBe(false);
    expect(certificate.publicKey.export({ type: "spki", format: "pem" })).toBe(openssl("pkey", "-in", "leaf.pem", "-pubout"));
    // Of the extensions, what each says and which are critical.
    const extensions = text.slice(text.indexOf("X509v3 extensions:"), text.lastIndexOf("Signature Algorithm"));
    const lines = extensions
      .split("\n")
      .slice(1)
      .map((line) => line.trim())
      .filter((line) => line !== "");
    const keyId = openssl("x509", "-in", "ca.pem", "-noout", "-ext", "subjectKeyIdentifier").split("\n")[1]!.trim();
    expect(lines).toEqual([
      "X509v3 Key Usage: critical",
      "Digital Signature, Key Encipherment",
      "X509v3 Extended Key Usage:",
      "TLS Web Server Authentication, TLS Web Client Authentication",
      "X509v3 Basic Constraints: critical",
      "CA:FALSE",
      "X509v3 Authority Key Identifier:",
      keyId,
      "X509v3 Subject Alternative Name: critical",
      "URI:spiffe://cluster.local/ns/default/sa/ratings",
    ]);
  });

  it("names its issuer by the identifier that this one gives itself, and by the key's hash where it gives none", async () => {
    const authorityKeyId = (text: string) => /Authority Key Identifier:\s*\n\s*(\S+)/.exec(text)![1];
    expect(authorityKeyId((await make(makeIssuer(ec("prime256v1"), "01:02:03:04"))).text)).toBe("01:02:03:04");
    const without = await make(makeIssuer(ec("prime256v1"), "none"));
    openssl("x509", "-in", "ca.pem", "-signkey", "ca-key.pem", "-extfile", "/dev/null", "-out", "hashed.pem");
    openssl("req", "-x509", "-key", "ca-key.pem", "-subj", "/O=x", "-addext", "subjectKeyIdentifier=hash", "-out", "hashed.pem");
    const hash = openssl("x509", "-in", "hashed.pem", "-noout", "-ext", "subjectKeyIdentifier").split("\n")[1]!.trim();
    expect(authorityKeyId(without.text)).toBe(hash);
  });

  it("holds names of all kinds, and a subject for those who are known by one", async () => {
    const { certificate, text } = await make(makeIssuer(ec("prime256v1"), "hash"), {
      subject: { O: "system:masters", CN: "ada \u00e9" },
      alternativeNames: [
        { type: "dns", value: "istiod.istio-system.svc" },
        { type: "ip", value: "127.0.0.1" },
        { type: "ip", value: "2001:db8::1:2" },
      ],
    });
    expect(certificate.subject).toBe("O=system:masters\nCN=ada \u00e9");
    expect(certificate.issuer).toBe("O=Mesh\nCN=root \u00e9");
    expect(text).toContain("DNS:istiod.istio-system.svc, IP Address:127.0.0.1, IP Address:2001:DB8:0:0:0:0:1:2");
    expect((await make(makeIssuer(ec("prime256v1"), "hash"), { alternativeNames: [] })).text).not.toContain("Alternative Name");
  });

  it("begins and ends to the second, also beyond the years of two digits", async () => {
    const { certificate } = await make(makeIssuer(ec("prime256v1"), "hash"), { notAfter: new Date("2050-12-31T23:59:59Z") });
    expect(certificate.validFromDate).toEqual(new Date("2026-01-02T03:04:05Z"));
    expect(certificate.validToDate).toEqual(new Date("2050-12-31T23:59:59Z"));
    const { certificate: last } = await make(makeIssuer(ec("prime256v1"), "hash"), { notAfter: new Date("2049-12-31T23:59:59Z") });
    expect(last.validToDate).toEqual(new Date("2049-12-31T23:59:59Z"));
  });

  it("never has the number of another", async () => {
    const issuer = makeIssuer(ec("prime256v1"), "hash");
    const serials = new Set<string>();
    for (let round = 0; round < 200; round++) {
      const { serialNumber } = new X509Certificate(await makeEndEntityCertificate(issuer, entity()));
      expect(serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/);
      serials.add(serialNumber);
    }
    expect(serials.size).toBe(200);
  });
});
