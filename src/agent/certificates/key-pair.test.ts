import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeMeshCa } from "../../../test/support/mesh-ca.ts";
import { filesIn, leadsTo, readValidPair } from "./key-pair.ts";

const uri = "spiffe://cluster.local/ns/shop/sa/web";

describe("readValidPair", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-pair-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const pair = makeMeshCa().issue(uri);
  const read = async () => {
    const reasons: string[] = [];
    const found = await readValidPair(filesIn(directory), (reason) => void reasons.push(reason));
    return found ? "a pair" : reasons;
  };
  const place = ({ certificate, key }: { certificate: string; key: string }) => {
    writeFileSync(join(directory, "cert-chain.pem"), certificate);
    writeFileSync(join(directory, "key.pem"), key);
  };

  it("says why files that are there are not used, and nothing of files that are not", async () => {
    expect(await read()).toEqual([]);
    place(pair);
    expect(await read()).toBe("a pair");
    place({ ...pair, key: makeMeshCa().issue(uri).key });
    expect(await read()).toEqual(["the private key does not belong to the certificate"]);
    place({ ...pair, key: "damaged" });
    expect(await read()).toEqual(["the private key can't be read"]);
    // As another user's file, which root may read all the same.
    rmSync(join(directory, "key.pem"));
    mkdirSync(join(directory, "key.pem"));
    expect(await read()).toEqual([expect.stringContaining("EISDIR")]);
  });
});

describe("leadsTo", () => {
  it("knows the roots that a certificate leads to, by its intermediates too", () => {
    const [ca, other] = [makeMeshCa("a"), makeMeshCa("a")];
    const between = ca.intermediate("b");
    const verdicts = (certificate: string) =>
      [ca.root, other.root, `${other.root}\n${ca.root}`, between.signing.certificate].map((roots) =>
        leadsTo({ chain: certificate }, roots),
      );
    expect(verdicts(ca.issue(uri).certificate)).toEqual([true, false, true, false]);
    expect(verdicts(between.issue(uri).certificate)).toEqual([true, false, true, true]);
  });
});
