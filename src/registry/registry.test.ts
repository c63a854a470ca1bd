import { describe, expect, it } from "vitest";
import { objectsOf } from "../../test/support/mesh.ts";
import { Registry } from "./registry.ts";

const options = { domain: "cluster.local", defaultServiceExportTo: ["*"] };
const registryOf = (yaml: string) => new Registry(objectsOf(yaml), options);

function addresses(registry: Registry, host: string, namespace = "default"): string[] {
  return registry.endpoints(registry.get(host, namespace)!).map((endpoint) => `${endpoint.portName} ${endpoint.address}:${endpoint.port}`);
}

const staticEntry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.test, www.shop.test]
  addresses: [10.0.0.1/32]
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 443, name: tls, protocol: TLS}
  resolution: STATIC
  endpoints:
  - {address: 10.1.0.1, ports: {http: 9090}, labels: {version: v1}}
  - {address: "unix:///run/shop.sock"}
`;

describe("Registry, ServiceEntry", () => {
  it("makes a service of each host, with single addresses unmasked", () => {
    const registry = registryOf(staticEntry.replace('  - {address: "unix:///run/shop.sock"}\n', ""));
    expect(registry.services.map((service) => service.host)).toEqual(["shop.test", "www.shop.test"]);
    expect(registry.services[0]?.addresses).toEqual(["10.0.0.1"]);
  });

  it("takes the endpoint's own port of that name, else the target port, else the port", () => {
    const registry = registryOf(staticEntry.replace('  - {address: "unix:///run/shop.sock"}\n', "  - {address: 10.1.0.2}\n"));
    expect(addresses(registry, "shop.test")).toEqual(["http 10.1.0.1:9090", "http 10.1.0.2:8080", "tls 10.1.0.1:443", "tls 10.1.0.2:443"]);
  });

  it("resolves the host itself when a DNS entry lists no endpoints", () => {
    const registry = registryOf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: default}
spec: {hosts: [api.example.com], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS, location: MESH_EXTERNAL}
`);
    expect(addresses(registry, "api.example.com")).toEqual(["https api.example.com:443"]);
    expect(registry.services[0]?.isExternal).toBe(true);
  });

  it("selects WorkloadEntries of its namespace by labels of spec and metadata", () => {
    const registry = registryOf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings, namespace: default}
spec:
  hosts: [ratings.test]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: ratings}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: default, labels: {app: ratings}}
spec: {address: 10.2.0.1, serviceAccount: ratings, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-2, namespace: default}
spec: {address: 10.2.0.2, labels: {app: ratings}, ports: {http: 19080}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-3, namespace: other}
spec: {address: 10.2.0.3, labels: {app: ratings}}
`);
    expect(addresses(registry, "ratings.test")).toEqual(["http 10.2.0.1:9080", "http 10.2.0.2:19080"]);
    const [first] = registry.endpoints(registry.get("ratings.test", "default")!);
    expect(first).toMatchObject({ weight: 3, tlsMode: "istio", serviceAccount: "ratings" });
  });

  it("lets the oldest of two entries for a host in a namespace stand", () => {
    const entry = (name: string, address: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: default}
spec: {hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: ${address}}]}
---`;
    expect(addresses(registryOf(entry("zz", "10.0.0.1") + entry("aa", "10.0.0.2")), "a.test")).toEqual(["http 10.0.0.1:80"]);
  });
});

const service = (ports: string, more = "") => `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.7, selector: {app: web}, ports: ${ports}${more}}
`;

describe("Registry, Kubernetes services", () => {
  it("names the service by its domain and reads protocols from port names and appProtocol", () => {
    const registry = registryOf(
      service(
        "[{name: http-web, port: 80}, {name: grpc, port: 90}, {name: x, port: 91, appProtocol: kubernetes.io/h2c}, {name: db, port: 3306}, {name: what, port: 92}]",
      ),
    );
    const web = registry.get("web.default.svc.cluster.local", "default")!;
    expect(web.ports.map((port) => port.protocol)).toEqual(["HTTP", "GRPC", "HTTP2", "TCP", "unsupported"]);
    expect(web.addresses).toEqual(["10.96.0.7"]);
  });

  it("prefers EndpointSlices to pods, and tells what is not ready", () => {
    const registry = registryOf(`${service("[{name: http, port: 80, targetPort: 8080}]")}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.3.0.1], conditions: {ready: true}}
- {addresses: [10.3.0.2], conditions: {ready: false}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: default, labels: {app: web}}
status: {podIP: 10.3.0.9}
`);
    const endpoints = registry.endpoints(registry.services[0]!);
    expect(endpoints.map(({ address, health }) => [address, health])).toEqual([
      ["10.3.0.1", "healthy"],
      ["10.3.0.2", "unhealthy"],
    ]);
  });

  it("selects pods and WorkloadEntries when no endpoints are listed, and finds named target ports", () => {
    const registry = registryOf(`${service("[{name: http, port: 80, targetPort: web}]")}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: default, labels: {app: web, version: v2}}
spec: {containers: [{name: c, ports: [{name: web, containerPort: 8088}]}]}
status: {podIP: 10.3.0.9}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: default}
spec: {address: 10.3.0.10, labels: {app: web}, ports: {http: 8099}}
`);
    expect(addresses(registry, "web.default.svc.cluster.local")).toEqual(["http 10.3.0.9:8088", "http 10.3.0.10:8099"]);
  });

  it.each([
    ["no health check is asked for", "", "[{type: Healthy, status: 'False'}]", "healthy"],
    ["nothing was reported yet", "proxy.istio.io/health-checks-enabled: 'true'", "[]", "withheld"],
    ["it is not well", "proxy.istio.io/health-checks-enabled: 'true'", "[{type: Healthy, status: 'False'}]", "withheld"],
    [
      "it is well",
      "proxy.istio.io/health-checks-enabled: 'true'",
      "[{type: Other, status: 'False'}, {type: Healthy, status: 'True'}]",
      "healthy",
    ],
    ["checks are turned off", "proxy.istio.io/health-checks-enabled: 'false'", "[{type: Healthy, status: 'False'}]", "healthy"],
  ])("judges a WorkloadEntry by its agent's reports: %s", (_, annotation, conditions, expected) => {
    const registry = registryOf(`${service("[{name: http, port: 80}]")}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: default, annotations: {${annotation}}}
spec: {address: 10.3.0.10, labels: {app: web}}
status: {conditions: ${conditions}}
`);
    expect(registry.endpoints(registry.services[0]!).map(({ health }) => health)).toEqual([expected]);
  });

  it("reads an ExternalName as a DNS name of another", () => {
    const registry = registryOf(`
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: default}
spec: {type: ExternalName, externalName: db.example.com, ports: [{name: tcp, port: 5432}]}
`);
    expect(registry.services[0]?.resolution).toBe("DNS");
    expect(addresses(registry, "ext.default.svc.cluster.local")).toEqual(["tcp db.example.com:5432"]);
  });
});

describe("Registry.servicesAt", () => {
  const at = (name: string, namespace: string, ...endpoints: string[]) =>
    inNetworks(name, namespace, ...endpoints.map((address) => `{address: ${address}}`));
  const inNetworks = (name: string, namespace: string, ...endpoints: string[]) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: ${namespace}}
spec: {hosts: [${name}.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [${endpoints.join()}]}
---`;
  const registry = registryOf(
    at("old", "default", "10.0.0.2") + at("mid", "other", "10.0.0.1") + at("new", "default", "10.0.0.1", "10.0.0.2", "10.0.0.3"),
  );
  const found = (ipAddresses: string[], namespace = "default") =>
    registry.servicesAt({ ipAddresses, namespace, network: "" }).map(({ service, endpoint }) => `${service.name} ${endpoint.address}`);

  it("finds what an address serves in its namespace, the oldest service first", () => {
    expect(found(["10.0.0.2"])).toEqual(["old 10.0.0.2", "new 10.0.0.2"]);
    expect(found(["10.0.0.1"])).toEqual(["new 10.0.0.1"]);
    expect(found(["10.0.0.1"], "other")).toEqual(["mid 10.0.0.1"]);
    expect(found(["10.9.9.9"])).toEqual([]);
  });

  it("keeps that order for several addresses, and takes each once", () => {
    expect(found(["10.0.0.1", "10.0.0.2", "10.0.0.1"])).toEqual(["old 10.0.0.2", "new 10.0.0.1", "new 10.0.0.2"]);
  });

  it("tells the same address in two networks apart, where both are named", () => {
    const shared = registryOf(
      inNetworks("here", "default", "{address: 10.0.0.1, network: one}") +
        inNetworks("there", "default", "{address: 10.0.0.1, network: two}") +
        at("anywhere", "default", "10.0.0.1"),
    );
    const servedIn = (network: string) =>
      shared.servicesAt({ ipAddresses: ["10.0.0.1"], namespace: "default", network }).map(({ service }) => service.name);
    expect(servedIn("one")).toEqual(["here", "anywhere"]);
    expect(servedIn("two")).toEqual(["there", "anywhere"]);
    expect(servedIn("")).toEqual(["here", "there", "anywhere"]);
  });
});

describe("Registry.changedEndpoints", () => {
  it("names the services whose endpoints differ, and no other", () => {
    const two = (address: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: default}
spec: {hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: ${address}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: default}
spec: {hosts: [b.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.0.0.9}]}
`;
    expect(registryOf(two("10.0.0.2")).changedEndpoints(registryOf(two("10.0.0.1")))).toEqual(["default/a.test"]);
    expect(registryOf(two("10.0.0.1")).changedEndpoints(registryOf(two("10.0.0.1")))).toEqual([]);
  });
});
