import { execFileSync } from "node:child_process";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { CertificateAuthority } from "./certificate-authority.ts";
import { loadPluggedIn } from "./plugged-in.ts";
import { isDue, loadSelfSigned, renewSelfSigned } from "./self-signed.ts";
import { istioAudience, loadTokenKey, ServiceAccountTokens } from "./service-account-tokens.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "topsail-authority-"));
});
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => void vi.useRealTimers());

const openssl = (...args: string[]) =>
  execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });

/** Root and intermediate as an operator would make them; the intermediate's key is RSA. */
function operatorsFiles(name: string): string {
  const into = join(directory, name);
  mkdirSync(into);
  const ca = ["-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign"];
  openssl(
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "30",
    "-subj",
    "/O=Root",
    ...ca,
    "-keyout",
    "root.key",
    "-out",
    `${name}/root-cert.pem`,
  );
  openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Mesh", ...ca, "-keyout", `${name}/ca-key.pem`, "-out", "mesh.csr");
  openssl(
    "x509",
    "-req",
    "-in",
    "mesh.csr",
    "-copy_extensions",
    "copyall",
    "-CA",
    `${name}/root-cert.pem`,
    "-CAkey",
    "root.key",
    "-CAcreateserial",
    "-days",
    "20",
    "-out",
    `${name}/ca-cert.pem`,
  );
  writeFileSync(join(into, "cert-chain.pem"), readFileSync(join(into, "ca-cert.pem")));
  return into;
}

describe("a plugged-in authority", () => {
  it("signs with the intermediate, and openssl follows the chain to the operator's root", async () => {
    const material = await loadPluggedIn(operatorsFiles("good"));
    const authority = new CertificateAuthority(material!);
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { chain } = await authority.sign(publicKey, [{ type: "url", value: "spiffe://td/ns/a/sa/b" }], 0);
    expect(chain).toHaveLength(2);
    writeFileSync(join(directory, "leaf.pem"), chain[0]!);
    writeFileSync(join(directory, "intermediates.pem"), chain.slice(1).join(""));
    expect(openssl("verify", "-x509_strict", "-CAfile", "good/root-cert.pem", "-untrusted", "intermediates.pem", "leaf.pem")).toContain(
      "OK",
    );
  });

  it("cuts a certificate's life to its own", async () => {
    const material = await loadPluggedIn(operatorsFiles("short"));
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { notAfter } = await new CertificateAuthority(material!).sign(publicKey, [], 60 * 24 * 3600);
    expect(notAfter).toEqual(new X509Certificate(material!.certificate).validToDate);
  });

  it.each([
    [
      "a key of another certificate",
      "ca-key.pem",
      () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }),
      "ca-cert.pem:1: the key does not belong to the certificate",
    ],
    ["a key that is none", "ca-key.pem", () => "secret!", "ca-key.pem:1: the text is no private key in PEM"],
    [
      "a root that did not sign it",
      "root-cert.pem",
      () => readFileSync(join(directory, "good/root-cert.pem")),
      'ca-cert.pem:1: "O=Mesh" is signed by none of the roots',
    ],
    ["a root that is no certificate", "root-cert.pem", () => "hello", "root-cert.pem:1: holds no certificate in PEM"],
    [
      "a certificate that may not sign",
      "ca-cert.pem",
      (into: string) => leaf(into),
      "ca-cert.pem:1: the certificate is not one of an authority",
    ],
  ])("refuses %s, and names the file", async (name, file, content, message) => {
    const into = operatorsFiles(name.replaceAll(" ", "-"));
    writeFileSync(join(into, file), content(into));
    const problem = await loadPluggedIn(into).catch((error: { describe(): string }) => error.describe());
    expect(problem).toContain(message);
    expect(problem).not.toContain("secret!");
  });

  it("is not there when there are no files", async () => {
    expect(await loadPluggedIn(join(directory, "nothing"))).toBeUndefined();
  });
});

/** A certificate that belongs to the key beside it, and is no authority's. */
function leaf(into: string): string {
  openssl(
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "3",
    "-subj",
    "/O=Leaf",
    "-addext",
    "basicConstraints=critical,CA:false",
    "-keyout",
    "leaf.key",
    "-out",
    "plain.pem",
  );
  writeFileSync(join(into, "ca-key.pem"), readFileSync(join(directory, "leaf.key")));
  return readFileSync(join(directory, "plain.pem"), "utf8");
}

describe("a root of our own", () => {
  it("is prolonged by the same key when a fifth of its life is left, and both are trusted", async () => {
    const old = await loadSelfSigned(undefined, "cluster.local");
    const tenYears = 3650 * 24 * 3600_000;
    expect(isDue(old, Date.now())).toBe(false);
    expect(isDue(old, Date.now() + tenYears * 0.81)).toBe(true);
    const renewed = await renewSelfSigned(undefined, "cluster.local", old);
    expect(renewed.roots).toEqual([renewed.certificate, old.certificate]);
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { chain } = await new CertificateAuthority(old).sign(publicKey, [], 3600);
    expect(new X509Certificate(chain[0]!).verify(new X509Certificate(renewed.certificate).publicKey)).toBe(true);
  });

  it("says what is wrong when its files are damaged, and makes no new one", async () => {
    const dataDir = join(directory, "damaged");
    await loadSelfSigned(dataDir, "cluster.local");
    writeFileSync(join(dataDir, "ca-key.pem"), "damaged");
    await expect(loadSelfSigned(dataDir, "cluster.local")).rejects.toThrow("the authority's own files can't be used");
  });
});

describe("service account tokens", () => {
  const account = { namespace: "a", serviceAccount: "b" };

  it("hold until they end", async () => {
    const tokens = new ServiceAccountTokens(await loadTokenKey(undefined), () => "uid-1");
    const { token, expiresAt } = await tokens.issue(account, [istioAudience], 600);
    expect(await tokens.verify(token, istioAudience)).toEqual(account);
    vi.useFakeTimers({ toFake: ["Date"], now: expiresAt.getTime() + 1000 });
    await expect(tokens.verify(token, istioAudience)).rejects.toThrow('"exp" claim timestamp check failed');
  });

  it("end with their account, also when another of the same name comes", async () => {
    let uid: string | undefined = "uid-1";
    const tokens = new ServiceAccountTokens(await loadTokenKey(undefined), () => uid);
    const { token } = await tokens.issue(account, [istioAudience], 600);
    for (uid of ["uid-2", undefined])
      await expect(tokens.verify(token, istioAudience)).rejects.toThrow("the token's service account is gone");
  });

  it.each([599, 2 ** 32 + 1, Number.NaN])("can't be had for %d seconds", async (seconds) => {
    const tokens = new ServiceAccountTokens(await loadTokenKey(undefined), () => "uid");
    await expect(tokens.issue(account, [istioAudience], seconds)).rejects.toThrow("may not specify a duration");
  });
});
