import { toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { NameTableSchema } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import type { ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { type ChangedKind, planPush } from "../push/push-request.ts";
import { nameTable } from "./name-table.ts";

const entry = (name: string, spec: string, namespace = "default") => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: ${namespace}}
spec: {ports: [{number: 9000, name: tcp, protocol: TCP}], ${spec}}
---`;

const service = (name: string, spec: string, namespace = "testns") => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {ports: [{name: tcp-port, port: 9000}, {name: http-port, port: 8000}], ${spec}}
---`;

const pod = (name: string, ip: string, rest = "", labels = "") => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: testns, labels: {app: db${labels}}}
spec: {hostname: ${name}, subdomain: headless}
status: {podIP: ${ip}${rest}}
---`;

const tableOf = (yaml: string, proxy: ProxyNode = sidecarNode({ metadata: { DNS_CAPTURE: "true" } })) =>
  (toJson(NameTableSchema, nameTable(proxy, pushContextOf(yaml))) as { table?: Record<string, unknown> }).table ?? {};

const kubernetes = (shortname: string, ...ips: string[]) => ({ ips, registry: "Kubernetes", shortname, namespace: "testns" });

describe("nameTable", () => {
  it("gives the addresses of a Service, with what its short forms are made from", () => {
    expect(tableOf(service("web", "clusterIP: 172.10.10.10"))).toEqual({
      "web.testns.svc.cluster.local": kubernetes("web", "172.10.10.10"),
    });
  });

  it("gives the addresses of ServiceEntries, without blocks of addresses", () => {
    const yaml =
      entry("a", "hosts: [mysql.foo.bar], addresses: [10.0.0.5, 10.0.0.6/32, 10.1.0.0/16], resolution: NONE") +
      entry("b", 'hosts: ["*.wild.test"], addresses: [10.0.0.7], resolution: NONE') +
      entry("c", "hosts: [cidr.test], addresses: [172.217.0.0/16], resolution: NONE");
    expect(tableOf(yaml)).toEqual({
      "mysql.foo.bar": { ips: ["10.0.0.5", "10.0.0.6"], registry: "External" },
      "*.wild.test": { ips: ["10.0.0.7"], registry: "External" },
    });
  });

  it("leaves out who has no address, and gives what was allocated where DNS is captured", () => {
    const yaml = entry("a", "hosts: [a.test], resolution: DNS");
    expect(tableOf(yaml, sidecarNode())).toEqual({});
    expect(tableOf(yaml)).toEqual({ "a.test": { ips: [expect.stringMatching(/^240\.240\./)], registry: "External" } });
  });

  it.each(["before", "after"])("lets a Service count before a ServiceEntry of another namespace made %s it", (order) => {
    const decorator = entry("d", "hosts: [web.testns.svc.cluster.local], addresses: [10.0.0.5], resolution: NONE", "other");
    const web = service("web", "clusterIP: 10.0.0.7");
    expect(tableOf(order === "before" ? decorator + web : web + decorator)).toEqual({
      "web.testns.svc.cluster.local": kubernetes("web", "10.0.0.7"),
    });
  });

  const headless = service("headless", "clusterIP: None, selector: {app: db}");

  it("gives a headless service's ready endpoints, once each, and pods by their own names", () => {
    const yaml =
      headless + pod("db-0", "1.2.3.4") + pod("db-1", "9.6.7.8") + pod("db-2", "9.6.7.9", ", conditions: [{type: Ready, status: 'False'}]");
    expect(tableOf(yaml)).toEqual({
      "headless.testns.svc.cluster.local": kubernetes("headless", "1.2.3.4", "9.6.7.8"),
      "db-0.headless.testns.svc.cluster.local": kubernetes("db-0.headless", "1.2.3.4"),
      "db-1.headless.testns.svc.cluster.local": kubernetes("db-1.headless", "9.6.7.8"),
    });
  });

  it("gives endpoints that are not ready where the service publishes them", () => {
    const yaml =
      service("headless", "clusterIP: None, selector: {app: db}, publishNotReadyAddresses: true") +
      pod("db-0", "1.2.3.4") +
      pod("db-1", "9.6.7.8", ", conditions: [{type: Ready, status: 'False'}]");
    expect(tableOf(yaml)["headless.testns.svc.cluster.local"]).toEqual(kubernetes("headless", "1.2.3.4", "9.6.7.8"));
  });

  it("keeps to the proxy's network", () => {
    const yaml = headless + pod("db-0", "1.2.3.4") + pod("db-1", "9.6.7.8", "", ", topology.istio.io/network: nw2");
    const of = (network: string) => tableOf(yaml, sidecarNode({ metadata: { NETWORK: network } }))["headless.testns.svc.cluster.local"];
    expect(of("nw1")).toEqual(kubernetes("headless", "1.2.3.4"));
    expect(of("nw2")).toEqual(kubernetes("headless", "1.2.3.4", "9.6.7.8"));
    expect(of("")).toEqual(kubernetes("headless", "1.2.3.4", "9.6.7.8"));
  });

  it("names endpoints of a slice by their host names", () => {
    const yaml = `${service("headless", "clusterIP: None")}
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: headless-1, namespace: testns, labels: {kubernetes.io/service-name: headless}}
addressType: IPv6
ports: [{name: tcp-port, port: 9000}, {name: http-port, port: 8000}]
endpoints: [{addresses: ["fd00::1"], hostname: db-0}, {addresses: ["fd00::2"], conditions: {ready: false}}]
`;
    expect(tableOf(yaml)).toEqual({
      "headless.testns.svc.cluster.local": kubernetes("headless", "fd00::1"),
      "db-0.headless.testns.svc.cluster.local": kubernetes("db-0.headless", "fd00::1"),
    });
  });

  it("gives the workloads that a ServiceEntry of resolution NONE selects, names among their addresses left out", () => {
    const workload = (name: string, address: string) => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ${name}, namespace: default}
spec: {address: ${address}, labels: {wl: foobar}}
---`;
    const yaml =
      entry("h", "hosts: [foo.bar.com], resolution: NONE, workloadSelector: {labels: {wl: foobar}}") +
      workload("a", "1.2.3.4") +
      workload("b", "vm.example.com") +
      workload("c", "9.6.7.8");
    expect(tableOf(yaml)).toEqual({ "foo.bar.com": { ips: ["1.2.3.4", "9.6.7.8"], registry: "External" } });
  });

  it("gives an alias the addresses of the service that it stands for, else the name", () => {
    const alias = (name: string, target: string) => service(name, `type: ExternalName, externalName: ${target}`);
    const yaml = alias("in", "Web.testns.svc.cluster.local.") + service("web", "clusterIP: 10.0.0.7") + alias("out", "example.com");
    expect(tableOf(yaml)).toMatchObject({
      "in.testns.svc.cluster.local": kubernetes("in", "10.0.0.7"),
      "out.testns.svc.cluster.local": { alias: "example.com", registry: "Kubernetes", shortname: "out", namespace: "testns" },
    });
  });

  it("shows what the Sidecar lets the proxy see, and gateways everything", () => {
    const yaml = `${service("web", "clusterIP: 10.0.0.7")}${service("db", "clusterIP: 10.0.0.8")}
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: ["testns/web.testns.svc.cluster.local"]}]}
`;
    expect(Object.keys(tableOf(yaml))).toEqual(["web.testns.svc.cluster.local"]);
    expect(Object.keys(tableOf(yaml, routerNode()))).toEqual(["web.testns.svc.cluster.local", "db.testns.svc.cluster.local"]);
  });
});

describe("pushes of the name table", () => {
  const pushes = (kinds: ChangedKind[], before: string, after: string) =>
    planPush(new Set(kinds), pushContextOf(before), pushContextOf(after))?.typeUrls.has(typeUrls.nds) ?? false;
  const web = service("web", "clusterIP: 10.0.0.7, selector: {app: db}");
  const headless = service("headless", "clusterIP: None, selector: {app: db}");

  it("follow services, their addresses, and the endpoints of headless ones", () => {
    expect(pushes(["Service"], "", web)).toBe(true);
    expect(pushes(["Service"], web, web.replace("10.0.0.7", "10.0.0.9"))).toBe(true);
    expect(pushes(["Sidecar"], web, web)).toBe(true);
    expect(pushes(["Pod"], headless, headless + pod("db-0", "1.2.3.4"))).toBe(true);
  });

  it("follow nothing else", () => {
    expect(pushes(["Pod"], web, web + pod("db-0", "1.2.3.4"))).toBe(false);
    for (const kind of ["VirtualService", "DestinationRule", "Gateway", "Secret", "AuthorizationPolicy"] as const) {
      expect(pushes([kind], web, web)).toBe(false);
    }
  });
});
