import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeMeshCa } from "../../test/support/mesh-ca.ts";
import { certificateNumbers, parseRevocationLists } from "./revocation-list.ts";

const ca = makeMeshCa();
const revoked = ca.issue("spiffe://a/ns/b/sa/c");
const numbersOf = (pem: string) => certificateNumbers(new X509Certificate(pem).raw)!;

/** By openssl, without any certificate in it, or for a century in which years have four digits. */
function listOf(days: number): string {
  const directory = mkdtempSync(join(tmpdir(), "topsail-crl-"));
  const at = (name: string) => join(directory, name);
  const settings = ["[ca]", "default_ca=d", "[d]", `database=${at("index")}`, "default_md=sha256", `default_crl_days=${days}`];
  writeFileSync(at("index"), "");
  writeFileSync(at("config"), settings.join("\n"));
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=other"];
  execFileSync("openssl", [...request, "-keyout", at("key"), "-out", at("ca")], { stdio: "ignore" });
  execFileSync("openssl", ["ca", "-config", at("config"), "-cert", at("ca"), "-keyfile", at("key"), "-gencrl", "-out", at("crl")], {
    stdio: "ignore",
  });
  const text = readFileSync(at("crl"), "utf8");
  rmSync(directory, { recursive: true });
  return text;
}

describe("revocation lists", () => {
  it("hold what openssl has revoked, by issuer", () => {
    const lists = parseRevocationLists(ca.revoke(revoked) + listOf(30));
    expect(lists.size).toBe(2);
    const { issuer, serial } = numbersOf(revoked.certificate);
    expect(issuer).toBe(numbersOf(ca.root).subject);
    const list = lists.get(issuer)!;
    expect([...list.serials]).toEqual([serial]);
    expect(list.serials.has(numbersOf(ca.issue("spiffe://a/ns/b/sa/d").certificate).serial)).toBe(false);
    expect((list.nextUpdateMs - list.thisUpdateMs) / 86_400_000).toBeCloseTo(30, 5);
    expect(Math.abs(list.thisUpdateMs - Date.now())).toBeLessThan(60_000);
  });

  it("may be empty, and may end after 2050", () => {
    const [list] = parseRevocationLists(listOf(40 * 365)).values();
    expect([...list!.serials]).toEqual([]);
    expect((list!.nextUpdateMs - list!.thisUpdateMs) / 86_400_000).toBeCloseTo(40 * 365, 5);
  });

  it("are refused when there are none, or a byte is missing, and never crash", () => {
    expect(() => parseRevocationLists("")).toThrow("no revocation list in PEM");
    const der = Buffer.from(ca.revoke(revoked).replace(/-----[A-Z0-9 ]+-----/g, ""), "base64");
    for (let length = 0; length < der.length; length++) {
      const text = `-----BEGIN X509 CRL-----\n${der.subarray(0, length).toString("base64")}\n-----END X509 CRL-----\n`;
      expect(() => parseRevocationLists(text)).toThrow(/revocation list/);
    }
    const certificate = new X509Certificate(revoked.certificate).raw;
    for (let length = 0; length < certificate.length; length++) expect(certificateNumbers(certificate.subarray(0, length))).toBeNull();
  });
});
