/** Answers of our DNS proxy beside those of Istio's, which dns/istio_oracle_test.go wrote down. Every difference is listed, with its reason. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { fromJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DnsProxy } from "../../src/agent/dns/dns-proxy.ts";
import { proxyDomain } from "../../src/agent/dns/name-forms.ts";
import { NameTableSchema } from "../../src/api/gen/istio/networking/nds/v1/nds_pb.js";
import { resolve } from "../support/dns-client.ts";
import { DnsUpstream, reply } from "../support/dns-upstream.ts";

interface Answer {
  readonly code: string;
  readonly authoritative: boolean;
  readonly truncated: boolean;
  readonly answers: readonly string[];
}

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, "dns", name), "utf8"));
const { table, search, queries } = read("names.json") as {
  table: Record<string, never>;
  search: string[];
  queries: { name: string; type: "A" | "AAAA" | "MX" }[];
};
const istios = read("names.golden.json") as Record<string, Answer>;

/** By type and name: what ours says instead. */
const differences: Readonly<Record<string, { readonly why: string; readonly ours: readonly string[] }>> = {
  "A WWW.google.com": {
    why: "the name is given as it was asked for, which clients that mix its case go by (draft-vixie-dnsext-dns0x20)",
    ours: ["WWW.google.com. 30 IN A 1.1.1.1"],
  },
  "A foo.wildcard.ns1.svc.cluster.local": {
    why: "the CNAME leads to the name that was meant, not to the wildcard",
    ours: ["foo.wildcard.ns1.svc.cluster.local. 30 IN CNAME foo.wildcard.", "foo.wildcard. 30 IN A 10.10.10.10"],
  },
  "A a.b.wildcard.ns1.svc.cluster.local": {
    why: "likewise",
    ours: ["a.b.wildcard.ns1.svc.cluster.local. 30 IN CNAME a.b.wildcard.", "a.b.wildcard. 30 IN A 11.11.11.11"],
  },
  "A foo.svc.mesh.company.net.ns1.svc.cluster.local": {
    why: "likewise",
    ours: [
      "foo.svc.mesh.company.net.ns1.svc.cluster.local. 30 IN CNAME foo.svc.mesh.company.net.",
      "foo.svc.mesh.company.net. 30 IN A 10.1.2.3",
    ],
  },
  "A mapped.example": { why: "an IPv4 address is one in IPv6's clothes too", ours: ["mapped.example. 30 IN A 5.5.5.5"] },
  "AAAA mapped.example": { why: "likewise", ours: [] },
};

/** Of a known name, where nameservers say that there is none: a resolver in between would remember that for its addresses too. */
const existing = new Set(["MX productpage", "MX www.google.com"]);

describe("DNS answers", () => {
  let directory: string;
  let nameserver: DnsUpstream;
  let proxy: DnsProxy;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-dns-golden-"));
    nameserver = await DnsUpstream.start((asked) => [
      asked.name === "www.bing.com."
        ? reply(asked, { records: [Buffer.from("c00c000100010000001e0004c0000201", "hex")] })
        : reply(asked, { code: 3 }),
    ]);
    writeFileSync(join(directory, "resolv.conf"), `${nameserver.line}search ${search.join(" ")}\n`);
    proxy = await DnsProxy.start({
      address: "127.0.0.1:0",
      domain: proxyDomain("ns1", "ns1.svc.cluster.local"),
      resolvConf: join(directory, "resolv.conf"),
      isParallel: false,
      timeoutMs: 5000,
      forwardsBeforeTable: false,
    });
    proxy.update(fromJson(NameTableSchema, { table }));
  });
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await nameserver?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  it("are Istio's, but for the differences that are listed", async () => {
    const found: Record<string, unknown> = {};
    for (const { name, type } of queries) {
      const { code, flags, answers } = await resolve(proxy, name, { type });
      // As zone files have it; which of many addresses are left, and their order, is chance.
      const records = answers.map((record) => record.replace(/^(\S+) (\d+) (\S+) /, "$1 $2 IN $3 ").replace(":0:0:0:", "::"));
      const first = records[0]?.includes(" CNAME ") ? 1 : 0;
      const ours: Answer = {
        code,
        authoritative: flags.includes("aa"),
        truncated: flags.includes("tc"),
        answers: [...records.slice(0, first), ...records.slice(first).sort()],
      };
      const key = `${type} ${name}`;
      const istio = istios[key]!;
      const expected = {
        ...istio,
        ...(differences[key] ? { answers: differences[key].ours } : {}),
        ...(existing.has(key) ? { code: "NOERROR" } : {}),
      };
      const isSame = expected.truncated
        ? isDeepStrictEqual({ ...ours, answers: ours.answers.length }, { ...expected, answers: expected.answers.length })
        : isDeepStrictEqual(ours, expected);
      if (!isSame) found[key] = { ours, istio };
    }
    // Each difference is one: a line that is no longer true is to go.
    expect(Object.keys(differences).filter((key) => isDeepStrictEqual(differences[key]!.ours, istios[key]?.answers))).toEqual([]);
    expect([...existing].map((key) => istios[key]?.code)).toEqual(["NXDOMAIN", "NXDOMAIN"]);
    expect(found).toEqual({});
  });
});
