import { describe, expect, it } from "vitest";
import { objectsOf, sidecarNode } from "../../test/support/mesh.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import { type AddressAllocation, hashedAllocation } from "./allocated-addresses.ts";
import { hashedAddresses } from "./hashed-address.ts";
import { Registry } from "./registry.ts";

const entry = (name: string, spec: string, rest = "") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: default${rest}}
spec: {ports: [{number: 80, name: http, protocol: HTTP}], ${spec}}
---`;

const registryOf = (yaml: string, allocation: AddressAllocation = hashedAllocation) =>
  new Registry(objectsOf(yaml), { domain: "cluster.local", defaultServiceExportTo: ["*"], allocation });

const capturing = (metadata: Record<string, string> = {}, ip = "10.9.1.1") =>
  sidecarNode({ ip, metadata: { DNS_CAPTURE: "true", ...metadata } });

const addressesOf = (registry: Registry, host: string, node = capturing()) => registry.addressesFor(registry.byHost(host)[0]!, node);

describe("hashedAddresses", () => {
  const free = () => true;

  it("finds Istio's addresses", () => {
    // Figures of Istio's own test of its hash, pilot/pkg/xds/nds_test.go.
    expect(hashedAddresses("ns2/random-1.host.example", free)).toEqual(["240.240.116.21", "2001:2::f0f0:7415"]);
    expect(hashedAddresses("ns2/random-3.host.example", free)?.[0]).toBe("240.240.81.100");
  });

  it("goes round what is taken, and gives up when all is", () => {
    const [first] = hashedAddresses("a/b", free)!;
    const [second] = hashedAddresses("a/b", ([v4]) => v4 !== first)!;
    expect(second).not.toBe(first);
    expect(hashedAddresses("a/b", () => false)).toBeUndefined();
  });

  it("gives each of its places an address of its own, none of them ending in 0 or 255", () => {
    const taken = new Set<string>();
    const hosts = 4000;
    for (let index = 0; index < hosts; index++) {
      const pair = hashedAddresses(`default/host-${index}.test`, ([v4, v6]) => !taken.has(v4) && !taken.has(v6))!;
      for (const address of pair) taken.add(address);
      expect(pair[0]).toMatch(/^240\.240\.\d+\.\d+$/);
      expect(pair[0]).not.toMatch(/\.(0|255)$/);
      expect(pair[1]).toMatch(/^2001:2::f0f0:[0-9a-f]{1,4}$/);
    }
    expect(taken.size).toBe(2 * hosts);
  });
});

describe("allocated addresses", () => {
  it("are a ServiceEntry's that has none of its own, one pair a host", () => {
    const registry = registryOf(entry("a", "hosts: [a.test, b.test], resolution: DNS"));
    const [a, b] = ["a.test", "b.test"].map((host) => addressesOf(registry, host));
    expect(a).toEqual([expect.stringMatching(/^240\.240\./)]);
    expect(b).toEqual([expect.stringMatching(/^240\.240\./)]);
    expect(a).not.toEqual(b);
    expect(addressesOf(registry, "a.test", capturing({ INSTANCE_IPS: "10.0.0.1,fd00::1" }))).toHaveLength(2);
    expect(addressesOf(registry, "a.test", capturing({}, "fd00::1"))).toEqual([expect.stringMatching(/^2001:2::f0f0:/)]);
  });

  it("do not depend on what else there is", () => {
    const one = registryOf(entry("a", "hosts: [a.test], resolution: DNS"));
    const many = registryOf(
      Array.from({ length: 50 }, (_, index) => entry(`x${index}`, `hosts: [x${index}.test], resolution: DNS`)).join("") +
        entry("a", "hosts: [a.test], resolution: DNS"),
    );
    expect(addressesOf(many, "a.test")).toEqual(addressesOf(one, "a.test"));
  });

  it.each([
    [
      "addresses of its own",
      entry("a", "hosts: [a.test], addresses: [10.0.0.9], resolution: STATIC, endpoints: [{address: 10.1.0.1}]"),
      ["10.0.0.9"],
    ],
    ["resolution NONE", entry("a", "hosts: [a.test], resolution: NONE"), []],
    [
      "the label against it",
      entry("a", "hosts: [a.test], resolution: DNS", ', labels: {networking.istio.io/enable-autoallocate-ip: "False"}'),
      [],
    ],
    ["a wildcard", entry("a", 'hosts: ["*.test"], resolution: STATIC, endpoints: [{address: 10.1.0.1}]'), []],
  ])("are none with %s", (_, yaml, expected) => {
    const registry = registryOf(yaml);
    expect(addressesOf(registry, registry.services[0]!.host)).toEqual(expected);
  });

  it("are a Service's too for machines of the family that its clusterIP is not of", () => {
    const service = (name: string, spec: string) =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: default}\nspec: {${spec} ports: [{port: 80}]}\n---\n`;
    const registry = registryOf(
      service("four", "clusterIP: 10.0.0.4,") +
        service("six", 'clusterIP: "fd00::6",') +
        service("both", 'clusterIP: 10.0.0.5, clusterIPs: [10.0.0.5, "fd00::5"],') +
        service("headless", "clusterIP: None,"),
    );
    const addresses = (ip: string) =>
      ["four", "six", "both", "headless"].map((name) => addressesOf(registry, `${name}.default.svc.cluster.local`, capturing({}, ip)));
    const [v4, v6] = [expect.stringMatching(/^240\.240\./), expect.stringMatching(/^2001:2::f0f0:/)];
    expect(addresses("10.9.1.1")).toEqual([["10.0.0.4"], [v4], ["10.0.0.5"], []]);
    expect(addresses("fd00::9")).toEqual([[v6], ["fd00::6"], ["fd00::5"], []]);
    expect(addressesOf(registry, "four.default.svc.cluster.local", capturing({ INSTANCE_IPS: "10.0.0.1,fd00::1" }))).toEqual(["10.0.0.4"]);
    expect(addressesOf(registry, "four.default.svc.cluster.local", sidecarNode({ ip: "fd00::9" }))).toEqual([]);
  });

  it("are for proxies alone whose agent answers DNS", () => {
    const yaml = entry("a", "hosts: [a.test], resolution: DNS");
    const onDemand = { ...hashedAllocation, isOnDemand: true };
    expect(addressesOf(registryOf(yaml), "a.test", sidecarNode())).toEqual([]);
    expect(addressesOf(registryOf(yaml), "a.test", sidecarNode({ metadata: { DNS_CAPTURE: "false" } }))).toEqual([]);
    expect(addressesOf(registryOf(yaml), "a.test", sidecarNode({ metadata: { DNS_AUTO_ALLOCATE: "true" } }))).toEqual([]);
    expect(addressesOf(registryOf(yaml, onDemand), "a.test")).toEqual([]);
    expect(addressesOf(registryOf(yaml, onDemand), "a.test", capturing({ DNS_AUTO_ALLOCATE: "true" }))).toHaveLength(1);
  });

  const status = (addresses: string) => `\nstatus: {addresses: [${addresses}]}\n---`;
  const withStatus = (name: string, host: string, addresses: string) =>
    entry(name, `hosts: [${host}], resolution: DNS`).replace("\n---", status(addresses));

  it("are those of the status, where there are any", () => {
    const registry = registryOf(withStatus("a", "a.test", '{host: a.test, value: 240.240.0.7}, {host: a.test, value: "2001:2:0::7"}'));
    expect(addressesOf(registry, "a.test", capturing({ INSTANCE_IPS: "10.0.0.1,fd00::1" }))).toEqual(["240.240.0.7", "2001:2::7"]);
  });

  it("leave a claim to the older of two, and the younger another", () => {
    const registry = registryOf(
      withStatus("a", "a.test", "{host: a.test, value: 240.240.0.7}") + withStatus("b", "b.test", "{host: b.test, value: 240.240.0.7}"),
    );
    expect(addressesOf(registry, "a.test")).toEqual(["240.240.0.7"]);
    expect(addressesOf(registry, "b.test")).toEqual([expect.not.stringMatching(/^240\.240\.0\.7$/)]);
  });

  it("take no notice of a status that is no list of addresses", () => {
    const text = withStatus(
      "a",
      "a.test",
      "{host: a.test, value: nonsense}, {value: 240.240.0.7}, 7, ~, {host: other.test, value: 240.240.0.8}",
    );
    expect(addressesOf(registryOf(text), "a.test")).toEqual(
      addressesOf(registryOf(entry("a", "hosts: [a.test], resolution: DNS")), "a.test"),
    );
  });

  it("wait for the status of an entry that somebody writes it to", () => {
    const isWritten = ({ metadata }: ConfigObject) => metadata.name === "a";
    const registry = registryOf(entry("a", "hosts: [a.test], resolution: DNS") + entry("b", "hosts: [b.test], resolution: DNS"), {
      isWritten,
      isOnDemand: false,
    });
    expect(addressesOf(registry, "a.test")).toEqual([]);
    expect(addressesOf(registry, "b.test")).toHaveLength(1);
  });

  it("are what a Service has that no API server gave a cluster IP", () => {
    const registry = registryOf(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: default}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: default}
spec: {clusterIP: 10.96.0.4, clusterIPs: [10.96.0.4, "fd00::4"], ports: [{port: 80}]}
`);
    const hostOf = (name: string) => `${name}.default.svc.cluster.local`;
    expect(addressesOf(registry, hostOf("web"))).toEqual([expect.stringMatching(/^240\.240\./)]);
    expect(addressesOf(registry, hostOf("headless"))).toEqual([]);
    expect(addressesOf(registry, hostOf("dual"))).toEqual(["10.96.0.4"]);
    expect(addressesOf(registry, hostOf("dual"), sidecarNode({ ip: "fd00::9" }))).toEqual(["fd00::4"]);
  });
});
