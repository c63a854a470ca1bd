import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { problemOfJwks } from "./usable-keys.ts";

const jwkOf = (pair: { publicKey: { export(options: { format: "jwk" }): object } }) => pair.publicKey.export({ format: "jwk" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const set = (...keys: object[]) => JSON.stringify({ keys });

describe("problemOfJwks", () => {
  it.each([
    ["RSA", jwkOf(rsa)],
    ["RSA for PS256", { ...jwkOf(rsa), alg: "PS256" }],
    ["P-256", jwkOf(generateKeyPairSync("ec", { namedCurve: "P-256" }))],
    ["P-384", jwkOf(generateKeyPairSync("ec", { namedCurve: "P-384" }))],
    ["P-521", jwkOf(generateKeyPairSync("ec", { namedCurve: "P-521" }))],
    ["Ed25519", jwkOf(generateKeyPairSync("ed25519"))],
    ["a secret", { kty: "oct", k: "AAAA", alg: "HS256" }],
  ])("has none with %s", (_, key) => expect(problemOfJwks(set(key))).toBeUndefined());

  it.each([
    ["secp256k1", jwkOf(generateKeyPairSync("ec", { namedCurve: "secp256k1" }))],
    ["X25519", jwkOf(generateKeyPairSync("x25519"))],
    ["Ed448", jwkOf(generateKeyPairSync("ed448"))],
    ["a key for encryption", { ...jwkOf(rsa), alg: "RSA-OAEP" }],
    ["a key without a type", { n: "AQAB", e: "AQAB" }],
    ["a secret that is no base64url", { kty: "oct", k: "a b" }],
  ])("has one with nothing but %s", (_, key) => expect(problemOfJwks(set(key))).toMatch(/^has no key of a type/));

  it("is content with one good key among others", () => {
    expect(problemOfJwks(set({ kty: "unknown" }, jwkOf(rsa)))).toBeUndefined();
  });

  it("knows a map of certificates", () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-keys-"));
    try {
      const certificate = (pem: string) => {
        writeFileSync(join(directory, "key.pem"), pem);
        return execFileSync("openssl", ["req", "-x509", "-key", join(directory, "key.pem"), "-days", "1", "-subj", "/CN=a"], {
          encoding: "utf8",
        });
      };
      const pemOf = (key: typeof rsa.privateKey) => key.export({ format: "pem", type: "pkcs8" }) as string;
      const good = certificate(pemOf(rsa.privateKey));
      const elliptic = certificate(pemOf(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey));
      expect(problemOfJwks(JSON.stringify({ a: good }))).toBeUndefined();
      expect(problemOfJwks(JSON.stringify({ a: good, b: elliptic }))).toBe("has no keys");
      expect(problemOfJwks(JSON.stringify({ a: "none" }))).toBe("has no keys");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
