import { spawnSync } from "node:child_process";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type KeyKind, makeCertificateRequest } from "./certificate-request.ts";

const identity = "spiffe://cluster.local/ns/bookinfo/sa/ratings";

/** What openssl reads in it, once its signature is the key's. */
function read(csr: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync("openssl", ["req", "-noout", "-verify", ...words], { input: csr, encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return stdout;
}

describe("a certificate request", () => {
  const kinds: [string, KeyKind, RegExp][] = [
    ["P-256", { type: "ec", curve: "P-256" }, /ecdsa-with-SHA256/],
    ["P-384", { type: "ec", curve: "P-384" }, /ecdsa-with-SHA384/],
    ["RSA", { type: "rsa", bits: 2048 }, /sha256WithRSAEncryption/],
  ];
  it.each(kinds)("of a key of kind %s is signed with it and asks for the identity", async (_, kind, algorithm) => {
    const { csr, privateKey } = await makeCertificateRequest(identity, kind);
    const text = read(csr, "-text");
    expect(text).toMatch(algorithm);
    expect(text).toMatch(/Version: 1 \(0x0\)/);
    expect(text).toMatch(new RegExp(`Subject Alternative Name: critical\\s+URI:${identity}\\s`));
    const publicKey = createPublicKey(createPrivateKey(privateKey)).export({ type: "spki", format: "pem" });
    expect(read(csr, "-pubkey")).toContain(publicKey);
  });

  it("names no organization, as Istio's agent's", async () => {
    const { csr } = await makeCertificateRequest(identity, { type: "ec", curve: "P-256" });
    expect(read(csr, "-subject")).toMatch(/^subject=O ?= ?$/m);
  });
});
