import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import { decodeName, encodeName } from "./domain-name.ts";
import { type Known, LookupTable } from "./lookup-table.ts";
import { nameForms, proxyDomain } from "./name-forms.ts";

interface Entry {
  readonly ips?: string[];
  readonly registry?: string;
  readonly shortname?: string;
  readonly namespace?: string;
  readonly altHosts?: string[];
  readonly alias?: string;
}

const external = (...ips: string[]): Entry => ({ ips, registry: "External" });
const kubernetes = (shortname: string, namespace: string, ...ips: string[]): Entry => ({
  ips,
  registry: "Kubernetes",
  shortname,
  namespace,
});

/** The names and addresses of Istio's own test, pkg/dns/client/dns_test.go. */
const istios: Record<string, Entry> = {
  "www.google.com": external("1.1.1.1"),
  "productpage.ns1.svc.cluster.local": kubernetes("productpage", "ns1", "9.9.9.9"),
  "example.ns2.svc.cluster.local": kubernetes("example", "ns2", "10.10.10.10"),
  "details.ns2.svc.cluster.remote": kubernetes("details", "ns2", "11.11.11.11", "12.12.12.12"),
  "svc-with-alt.ns1.svc.cluster.local": {
    ...kubernetes("svc-with-alt", "ns1", "15.15.15.15"),
    altHosts: ["svc-with-alt.ns1.svc.clusterset.local"],
  },
  "ipv6.localhost": external("2001:db8:0:0:0:ff00:42:8329"),
  "dual.localhost": external("2.2.2.2", "2001:db8:0:0:0:ff00:42:8329"),
  "*.b.wildcard": external("11.11.11.11"),
  "*.wildcard": external("10.10.10.10"),
  "*.svc.mesh.company.net": external("10.1.2.3"),
  "example.localhost.": external("3.3.3.3"),
};

const tableOf = (entries: Record<string, Entry>, search: string | null = "ns1.svc.cluster.local") =>
  new LookupTable(create(NameTableSchema, { table: entries }), proxyDomain("ns1", "ns1.svc.cluster.local"), search ?? undefined);

const last4 = (known: Known | undefined) => (known ? [...known.a.bytes.subarray(-4)].join(".") : undefined);

/** Address, and behind an arrow the name that a CNAME leads to. */
function find(table: LookupTable, name: string): string | undefined {
  const wire = encodeName(name)!;
  const known = table.find(wire);
  if (!known) return undefined;
  const address = known.aliasOf ? `alias of ${decodeName(known.aliasOf)}` : known.a.count > 0 ? last4(known) : "";
  return known.suffixBytes > 0 ? `${decodeName(`${wire.slice(0, -known.suffixBytes - 1)}\0`)} -> ${address}` : address;
}

describe("LookupTable", () => {
  const table = tableOf(istios);

  it.each([
    ["www.google.com.", "1.1.1.1"],
    ["WWW.Google.COM", "1.1.1.1"],
    ["www.google.com.ns1.svc.cluster.local.", "www.google.com. -> 1.1.1.1"],
    ["www.bing.com.", undefined],
    ["productpage.ns1.svc.cluster.local.", "9.9.9.9"],
    ["productpage.ns1.svc.cluster.local.ns1.svc.cluster.local.", undefined],
    ["productpage.ns1.svc.", "9.9.9.9"],
    ["productpage.ns1.", "9.9.9.9"],
    ["productpage.", "9.9.9.9"],
    ["productpage.ns1.svc.cluster.", undefined],
    ["productpage.ns1.ns1.svc.cluster.local.", "productpage.ns1. -> 9.9.9.9"],
    ["example.ns2.", "10.10.10.10"],
    ["example.ns2.svc.", "10.10.10.10"],
    ["example.ns2.svc.cluster.local.", "10.10.10.10"],
    ["example.", undefined],
    ["svc-with-alt.ns1.svc.clusterset.local.", "15.15.15.15"],
    ["details.ns2.svc.cluster.remote.", "12.12.12.12"],
    ["details.ns2.", undefined],
    ["foo.wildcard.", "10.10.10.10"],
    ["a.b.wildcard.", "11.11.11.11"],
    ["x.a.b.wildcard.", "11.11.11.11"],
    ["wildcard.", undefined],
    ["foo.wildcard.ns1.svc.cluster.local.", "foo.wildcard. -> 10.10.10.10"],
    ["foo.svc.mesh.company.net.", "10.1.2.3"],
    ["foo.foons.svc.mesh.company.net.", "10.1.2.3"],
    ["foo.svc.mesh.company.net.ns1.svc.cluster.local.", "foo.svc.mesh.company.net. -> 10.1.2.3"],
    ["example.localhost.", "3.3.3.3"],
    ["wildcard.ns1.svc.cluster.local.", undefined],
    ["x.b.wildcard.ns1.svc.cluster.local.", "x.b.wildcard. -> 11.11.11.11"],
    ["ns1.svc.cluster.local.", undefined],
    ["dual.localhost.", "2.2.2.2"],
    ["ipv6.localhost.", ""],
    [".", undefined],
  ])("knows %s as %s", (name, expected) => {
    expect(find(table, name)).toBe(expected);
  });

  it("tells a dot within a label from one between labels", () => {
    expect(table.find("\x0ewww.google.com\0")).toBeUndefined();
  });

  it("lets whole names count before short forms, and those before what a search domain makes of others", () => {
    const mixed = tableOf({
      web: external("1.1.1.1"),
      "web.ns1.svc.cluster.local": kubernetes("web", "ns1", "2.2.2.2"),
      "b.ns1": external("4.4.4.4"),
      "b.ns1.ns1.svc.cluster.local": external("5.5.5.5"),
    });
    expect(find(mixed, "web")).toBe("1.1.1.1");
    expect(find(mixed, "web.ns1.svc.cluster.local")).toBe("2.2.2.2");
    expect(find(mixed, "b.ns1.ns1.svc.cluster.local")).toBe("5.5.5.5");
  });

  it("takes of two wildcards the one that leaves more of the name, be it made by a search domain or not", () => {
    const both = tableOf({
      "*.ns1.svc.cluster.local": external("1.1.1.1"),
      "*.wild.test": external("2.2.2.2"),
      "*.deep.wild.test.ns1.svc.cluster.local": external("3.3.3.3"),
    });
    expect(find(both, "foo.ns1.svc.cluster.local")).toBe("1.1.1.1");
    expect(find(both, "a.wild.test.ns1.svc.cluster.local")).toBe("a.wild.test. -> 2.2.2.2");
    expect(find(both, "a.deep.wild.test.ns1.svc.cluster.local")).toBe("3.3.3.3");
  });

  it("has no search forms where there is no search domain", () => {
    expect(find(tableOf(istios, null), "www.google.com.ns1.svc.cluster.local")).toBeUndefined();
    expect(find(tableOf(istios, "corp.example."), "www.google.com.corp.example")).toBe("www.google.com. -> 1.1.1.1");
  });

  it("leaves out names and addresses that are none, and takes IPv4 out of IPv6", () => {
    const odd = tableOf({
      "a..b": external("1.1.1.1"),
      [`${"x".repeat(64)}.test`]: external("1.1.1.1"),
      "none.test": external("nonsense", "10.0.0.0/8"),
      "empty.test": external(),
      "mapped.test": external("::ffff:1.2.3.4"),
      "some.test": external("nonsense", "1.2.3.5"),
    });
    expect(["a..b", "none.test", "empty.test"].map((name) => (encodeName(name) ? find(odd, name) : undefined))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(find(odd, "mapped.test")).toBe("1.2.3.4");
    expect(find(odd, "some.test")).toBe("1.2.3.5");
  });

  it("follows aliases to names that it knows, and keeps the others for the nameservers", () => {
    const aliases = tableOf({
      "out.ns1.svc.cluster.local": { registry: "Kubernetes", shortname: "out", namespace: "ns1", alias: "example.com" },
      "in.ns1.svc.cluster.local": { registry: "Kubernetes", shortname: "in", namespace: "ns1", alias: "www.google.com" },
      "searched.ns1.svc.cluster.local": {
        registry: "Kubernetes",
        shortname: "searched",
        namespace: "ns1",
        alias: "www.google.com.ns1.svc.cluster.local",
      },
      "twice.ns1.svc.cluster.local": { registry: "Kubernetes", shortname: "twice", namespace: "ns1", alias: "out.ns1.svc.cluster.local" },
      "round.ns1.svc.cluster.local": { registry: "Kubernetes", shortname: "round", namespace: "ns1", alias: "round.ns1.svc.cluster.local" },
      ...istios,
    });
    expect(find(aliases, "out")).toBe("alias of example.com.");
    expect(find(aliases, "out.ns1.ns1.svc.cluster.local")).toBe("out.ns1. -> alias of example.com.");
    expect(find(aliases, "in.ns1")).toBe("1.1.1.1");
    expect(find(aliases, "searched")).toBe("1.1.1.1");
    expect(find(aliases, "twice")).toBe("alias of example.com.");
    expect(find(aliases, "round")).toBe("alias of round.ns1.svc.cluster.local.");
  });
});

describe("nameForms", () => {
  const forms = (host: string, entry: Entry, domain = "ns1.svc.cluster.local") =>
    nameForms(host, create(NameTableSchema, { table: { [host]: entry } }).table[host]!, proxyDomain("ns1", domain));

  it("are one for hosts that are none of Kubernetes'", () => {
    expect(forms("www.google.com", external())).toEqual(["www.google.com."]);
    expect(forms("example.localhost.", external())).toEqual(["example.localhost."]);
  });

  it("are all for a service of the own namespace, without the shortest for another's, and one for another domain's", () => {
    expect(forms("a.ns1.svc.cluster.local", kubernetes("a", "ns1"))).toEqual(["a.ns1.svc.cluster.local.", "a.ns1.", "a.ns1.svc.", "a."]);
    expect(forms("a.ns2.svc.cluster.local", kubernetes("a", "ns2"))).toEqual(["a.ns2.svc.cluster.local.", "a.ns2.", "a.ns2.svc."]);
    expect(forms("a.ns1.svc.cluster.remote", kubernetes("a", "ns1"))).toEqual(["a.ns1.svc.cluster.remote."]);
    expect(forms("a.ns1.svc.cluster.local", kubernetes("a", "ns1"), "")).toEqual(["a.ns1.svc.cluster.local."]);
  });

  it("are a pod's with its service's name", () => {
    expect(forms("db-0.db.ns1.svc.cluster.local", kubernetes("db-0.db", "ns1"))).toEqual([
      "db-0.db.ns1.svc.cluster.local.",
      "db-0.db.ns1.",
      "db-0.db.ns1.svc.",
      "db-0.db.",
    ]);
  });
});
