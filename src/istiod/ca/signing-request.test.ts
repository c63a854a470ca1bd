import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keyOfRequest } from "./signing-request.ts";

describe("keyOfRequest", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-request-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** By openssl; the public key as openssl sees it. */
  const make = (keyArgs: readonly string[], digest = "sha256") => {
    const [request, key] = [join(directory, "request.pem"), join(directory, "key.pem")];
    const subject = ["-subj", "/O=", "-addext", "subjectAltName=URI:spiffe://a/ns/b/sa/c", `-${digest}`];
    execFileSync("openssl", ["req", "-new", "-nodes", ...keyArgs, ...subject, "-keyout", key, "-out", request], { stdio: "ignore" });
    const publicKey = execFileSync("openssl", ["pkey", "-in", key, "-pubout"], { encoding: "utf8" });
    return { pem: readFileSync(request, "utf8"), publicKey };
  };
  const ec = (curve: string) => ["-newkey", "ec", "-pkeyopt", `ec_paramgen_curve:${curve}`];
  const rebuilt = (der: Buffer) => `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  const derOf = (pem: string) => Buffer.from(pem.replaceAll(/-----.*-----/g, ""), "base64");

  it.each([
    ["P-256", ec("prime256v1"), "sha256"],
    ["P-384", ec("secp384r1"), "sha384"],
    ["P-256 with SHA-512", ec("prime256v1"), "sha512"],
    ["RSA", ["-newkey", "rsa:2048"], "sha256"],
  ])("reads openssl's requests: %s", (_, keyArgs, digest) => {
    const { pem, publicKey } = make(keyArgs, digest);
    expect(keyOfRequest(pem).export({ type: "spki", format: "pem" })).toBe(publicKey);
    expect(keyOfRequest(pem.replaceAll("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")).type).toBe("public");
  });

  it("refuses what another key has signed, in any place of it", () => {
    const der = derOf(make(ec("prime256v1")).pem);
    // A bit of the key, of the names, of the signature.
    for (const at of [12, 60, der.length - 5, Math.floor(der.length / 2)]) {
      const forged = Buffer.from(der);
      forged[at]! ^= 1;
      expect(() => keyOfRequest(rebuilt(forged)), `byte ${at}`).toThrow();
    }
  });

  it("refuses a signature of a kind that is broken", () => {
    expect(() => keyOfRequest(make(ec("prime256v1"), "sha1").pem)).toThrow(/not supported: ECDSA or RSA with SHA-2/);
  });

  it("refuses what is cut, has something behind it, or is no request", () => {
    const der = derOf(make(ec("prime256v1")).pem);
    for (let length = 0; length < der.length; length += 7) expect(() => keyOfRequest(rebuilt(der.subarray(0, length)))).toThrow();
    expect(() => keyOfRequest(rebuilt(Buffer.concat([der, Buffer.from([0])])))).toThrow("it is no PKCS #10");
    expect(() => keyOfRequest("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")).toThrow(
      "it is no PEM of a certificate request",
    );
  });
});
