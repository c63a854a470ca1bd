import { describe, expect, it } from "vitest";
import { addressesOf, endpointsOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";

const web = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
`;
const entry = (address: string, network: string, more = "") => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: "e-${address.replaceAll(/[.:]/g, "-")}", namespace: default}
spec: {address: "${address}", network: "${network}", labels: {app: web}, serviceAccount: web${more}}
---
`;
const gateway = (name: string, network: string, addresses: string, more = "", ports = "[{name: tls, port: 15443}]") => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: istio-system, labels: {topology.istio.io/network: ${network}${more}}}
spec: {type: LoadBalancer, externalIPs: [${addresses}], ports: ${ports}}
---
`;
const cluster = "outbound|80||web.default.svc.cluster.local";
const inNetwork = (network: string, ip = "10.9.1.1") => sidecarNode({ ip, ...(network ? { metadata: { NETWORK: network } } : {}) });
/** `address:port*weight` */
const seen = (yaml: string, proxy = inNetwork("one"), networks?: string) => {
  const assignment = endpointsOf(cluster, proxy, pushContextOf(web + yaml, "", networks));
  const weights = assignment.endpoints.flatMap(({ lbEndpoints }) => lbEndpoints.map(({ loadBalancingWeight }) => loadBalancingWeight));
  return addressesOf(assignment).map((address, index) => `${address}*${weights[index]}`);
};

describe("endpoints in several networks", () => {
  const both = entry("10.1.0.1", "one") + entry("10.2.0.1", "two") + entry("10.2.0.2", "two");

  it("are all direct as long as no network has a gateway", () => {
    expect(seen(both)).toEqual(["10.1.0.1:80*1", "10.2.0.1:80*1", "10.2.0.2:80*1"]);
  });

  it("are behind the other network's gateway, whose weight is theirs together", () => {
    expect(seen(both + gateway("east", "two", "192.0.2.2"))).toEqual(["10.1.0.1:80*1", "192.0.2.2:15443*2"]);
    expect(seen(both + gateway("east", "two", "192.0.2.2"), inNetwork("two"))).toEqual(["10.1.0.1:80*1", "10.2.0.1:80*1", "10.2.0.2:80*1"]);
  });

  it("share their weight among several gateways, scaled so that it can be divided", () => {
    expect(seen(both + gateway("east", "two", "192.0.2.2, 192.0.2.3"))).toEqual([
      "10.1.0.1:80*2",
      "192.0.2.2:15443*2",
      "192.0.2.3:15443*2",
    ]);
  });

  it("are behind gateways for a proxy that does not know its network, but for those that name none", () => {
    expect(seen(both + entry("10.3.0.1", "") + gateway("east", "two", "192.0.2.2"), inNetwork(""))).toEqual([
      "10.1.0.1:80*1",
      "10.3.0.1:80*1",
      "192.0.2.2:15443*2",
    ]);
  });

  it("are nobody's without mutual TLS, which the gateway reads the name from", () => {
    const plain = entry("10.2.0.9", "two", ", labels: {app: web, security.istio.io/tlsMode: disabled}").replace(
      "labels: {app: web}, service",
      "service",
    );
    expect(seen(entry("10.1.0.1", "one") + plain + gateway("east", "two", "192.0.2.2"))).toEqual(["10.1.0.1:80*1"]);
  });

  it("do not count for their gateway while nobody has heard that they are well", () => {
    const checked = entry("10.2.0.9", "two").replace(
      "namespace: default",
      "namespace: default, annotations: {proxy.istio.io/health-checks-enabled: 'true'}",
    );
    expect(seen(both + checked + gateway("east", "two", "192.0.2.2"))).toEqual(["10.1.0.1:80*1", "192.0.2.2:15443*2"]);
    expect(seen(entry("10.1.0.1", "one") + checked + gateway("east", "two", "192.0.2.2"))).toEqual(["10.1.0.1:80*1"]);
  });

  it("are left out when their gateway's family is none of the proxy's", () => {
    const yaml = both + gateway("east", "two", '"2001:db8::2"');
    expect(seen(yaml)).toEqual(["10.1.0.1:80*1"]);
    expect(seen(yaml, sidecarNode({ ip: "10.9.1.1", metadata: { NETWORK: "one", INSTANCE_IPS: "10.9.1.1,2001:db8::9" } }))).toEqual([
      "10.1.0.1:80*1",
      "2001:db8::2:15443*2",
    ]);
  });

  it("are those alone that a gateway is to lead to", () => {
    const router = routerNode({ metadata: { NETWORK: "two", REQUESTED_NETWORK_VIEW: "two" } });
    expect(seen(both + gateway("east", "two", "192.0.2.2"), router)).toEqual(["10.2.0.1:80*1", "10.2.0.2:80*1"]);
  });

  it("take the port that the gateway's Service says", () => {
    const remote = entry("10.2.0.1", "two");
    expect(seen(remote + gateway("east", "two", "192.0.2.2", ", networking.istio.io/gatewayPort: '443'"))).toEqual(["192.0.2.2:443*1"]);
  });

  it("get their network from MeshNetworks and from the system namespace's label", () => {
    const networks = `
networks:
  two:
    endpoints: [{fromCidr: 10.2.0.0/16}]
    gateways: [{address: 192.0.2.2, port: 15443}, {registryServiceName: east.istio-system.svc.cluster.local, port: 8443}]
`;
    const named = gateway("east", "unused", "192.0.2.9").replace("labels: {topology.istio.io/network: unused}", "labels: {}");
    expect(seen(entry("10.2.0.1", "") + named, inNetwork("one"), networks)).toEqual(["192.0.2.2:15443*1", "192.0.2.9:8443*1"]);
    const home = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: two}}\n---\n";
    expect(seen(entry("10.5.0.1", "") + home + gateway("east", "two", "192.0.2.2"))).toEqual(["192.0.2.2:15443*1"]);
  });

  it("say which gateway can't be used", () => {
    const push = pushContextOf(web + gateway("east", "two", "gateway.example.com"));
    expect(push.networks.problems).toEqual([
      "Service east.istio-system: gateway gateway.example.com of network two is no IP address and is left out",
    ]);
  });
});
