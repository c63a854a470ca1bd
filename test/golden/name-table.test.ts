/** Name tables of our control plane beside those of Istio's, which dns/istio_name_table_oracle_test.go wrote down. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { NameTableSchema } from "../../src/api/gen/istio/networking/nds/v1/nds_pb.js";
import type { ProxyNode } from "../../src/api/node.ts";
import { nameTable } from "../../src/istiod/xds/name-table.ts";
import { type NodeInit, pushContextOf, sidecarNode } from "../support/mesh.ts";

interface NameInfo {
  readonly ips?: readonly string[];
  readonly registry?: string;
  readonly shortname?: string;
  readonly namespace?: string;
}
type Table = Record<string, NameInfo>;

const path = (name: string) => join(import.meta.dirname, "dns", name);
const push = pushContextOf(readFileSync(path("name-tables.yaml"), "utf8"));
const istios = JSON.parse(readFileSync(path("name-tables.golden.json"), "utf8")) as Record<string, Table>;

const node = (init: NodeInit) => sidecarNode({ ip: "10.9.1.1", namespace: "ns1", ...init });
const nodes: Readonly<Record<string, ProxyNode>> = {
  plain: node({}),
  capturing: node({ metadata: { DNS_CAPTURE: "true" } }),
  network: node({ metadata: { DNS_CAPTURE: "true", NETWORK: "near" } }),
  limited: node({ labels: { app: "limited" }, metadata: { DNS_CAPTURE: "true" } }),
  elsewhere: node({ namespace: "ns2", metadata: { DNS_CAPTURE: "true" } }),
};

/** Addresses have no order. */
const sorted = (table: Table): Table =>
  Object.fromEntries(Object.entries(table).map(([host, info]) => [host, { ...info, ips: [...(info.ips ?? [])].sort() }]));

describe("name tables", () => {
  it.each(Object.keys(nodes))("are Istio's for a node that is %s", (name) => {
    const { table = {} } = toJson(NameTableSchema, nameTable(nodes[name]!, push)) as { table?: Table };
    const { "alias.ns1.svc.cluster.local": alias, "vms.example.com": workloads, ...ours } = table;
    expect(sorted(ours)).toEqual(sorted(istios[name]!));
    if (name === "limited") return;
    // ExternalName is Kubernetes' own DNS server's business there; here nobody else would answer it.
    expect(alias).toMatchObject({ alias: "example.com" });
    // Its unit test expects them, but WorkloadEntries have no health there, and so are left out as not ready.
    expect(workloads?.ips).toEqual(name === "network" ? ["10.2.0.1"] : ["10.2.0.1", "10.2.0.2"]);
  });
});
