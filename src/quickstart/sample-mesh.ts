/**
 * The workloads of the sample mesh: which service runs on which address of loopback, and its configuration as YAML.
 *
 * Each has a sidecar that needs neither root nor redirected traffic, as its Sidecar resource says:
 *
 *     127.0.1.5:9080    inbound: mutual TLS of the mesh, and plaintext unless a PeerAuthentication forbids it ──> 127.0.1.5:9081 application
 *     127.0.1.5:15080   outbound: an HTTP proxy, at which the application calls the others by their names
 */
import { stringify } from "yaml";
import type { QuickstartPorts } from "./ports.ts";

export interface SampleWorkload {
  readonly app: string;
  readonly service: string;
  readonly version: string;
  readonly address: string;
  /** Port by which the mesh knows the service. */
  readonly servicePort: number;
}

const list: readonly (readonly [app: string, service: string, version: string, servicePort: number])[] = [
  ["bookinfo", "productpage", "v1", 9080],
  ["bookinfo", "details", "v1", 9080],
  ["bookinfo", "ratings", "v1", 9080],
  ["bookinfo", "reviews", "v1", 9080],
  ["bookinfo", "reviews", "v2", 9080],
  ["bookinfo", "reviews", "v3", 9080],
  ["httpbin", "httpbin", "v1", 8000],
  ["customers", "customers", "v1", 80],
  ["customers", "customers", "v2", 80],
  ["web-frontend", "web-frontend", "v1", 80],
];

export const workloads: readonly SampleWorkload[] = list.map(([app, service, version, servicePort], index) => ({
  app,
  service,
  version,
  servicePort,
  address: `127.0.1.${index + 1}`,
}));

/** Also the name of its Sidecar and of its WorkloadEntry. */
export function workloadName({ service, version }: SampleWorkload): string {
  return `${service}-${version}`;
}

export const sampleNamespace = "default";
export const gatewayNamespace = "istio-system";
export const gatewayAccount = "istio-ingressgateway";
export const gatewayLabels = { app: "istio-ingressgateway", istio: "ingressgateway" };

type Json = Record<string, unknown>;

/** File name to content, for a configuration directory that is new. */
export function configurationFiles(ports: QuickstartPorts): Record<string, string> {
  return {
    "README.md": readme,
    "mesh-config.yaml":
      "# MeshConfig: changes take effect at once. Access logs go to the quickstart's terminal with:\n# accessLogFile: /dev/stdout\n",
    "services.yaml": yaml(
      "Where the services of the sample mesh run, and who they are. On real machines each would have an address of its own.",
      services(ports),
    ),
    "sidecars.yaml": yaml(
      "Where the sidecar of each workload listens. No traffic is redirected here, so that it needs neither root nor rules.",
      workloads.map((workload) => sidecar(workload, ports)),
    ),
    "gateway.yaml": yaml("The door of the mesh: port 80 of the ingress gateway.", [gateway()]),
    "bookinfo.yaml": yaml("What the ingress gateway does with requests for the bookshop.", [bookinfoRoutes(), ...plainRoutes()]),
    "reviews.yaml": yaml(
      "Which version of reviews is asked. Change the weights and reload the page: v1 has no stars, v2 black ones, v3 red ones.",
      reviews(),
    ),
    "httpbin.yaml": yaml("httpbin answers with what it was asked.", [localhostRoutes("httpbin", 8000)]),
    "customers.yaml": yaml("web-frontend shows what customers answers: v1 names, v2 names and cities.", customers()),
  };
}

function yaml(comment: string, objects: readonly Json[]): string {
  return `# ${comment}\n${objects.map((object) => stringify(object)).join("---\n")}`;
}

function object(apiVersion: string, kind: string, name: string, rest: Json, namespace = "default"): Json {
  return { apiVersion, kind, metadata: { name, namespace }, ...rest };
}

const networking = "networking.istio.io/v1";

function services(ports: QuickstartPorts): Json[] {
  const names = [...new Set(workloads.map(({ service }) => service))];
  return [
    ...names.flatMap((name) => {
      const own = workloads.filter(({ service }) => service === name);
      return [
        object("v1", "Service", name, {
          spec: { selector: { app: name }, ports: [{ name: "http", port: own[0]!.servicePort, targetPort: ports.inbound }] },
        }),
        object("v1", "ServiceAccount", name, {}),
        ...own.map((workload) =>
          object(networking, "WorkloadEntry", workloadName(workload), {
            spec: {
              address: workload.address,
              labels: workloadLabels(workload),
              ports: { http: ports.inbound },
              serviceAccount: name,
            },
          }),
        ),
      ];
    }),
    object(
      "v1",
      "Service",
      "istio-ingressgateway",
      { spec: { selector: gatewayLabels, ports: [{ name: "http", port: 80, targetPort: ports.http }] } },
      gatewayNamespace,
    ),
    object("v1", "ServiceAccount", gatewayAccount, {}, gatewayNamespace),
    object(
      networking,
      "WorkloadEntry",
      "istio-ingressgateway",
      { spec: { address: "127.0.0.1", labels: gatewayLabels, serviceAccount: gatewayAccount } },
      gatewayNamespace,
    ),
  ];
}

export function workloadLabels({ service, version }: SampleWorkload): Record<string, string> {
  return { app: service, version };
}

function sidecar(workload: SampleWorkload, ports: QuickstartPorts): Json {
  const bound = (number: number, name: string, protocol: string) => ({
    port: { number, name, protocol },
    bind: workload.address,
    captureMode: "NONE",
  });
  return object(networking, "Sidecar", workloadName(workload), {
    spec: {
      workloadSelector: { labels: workloadLabels(workload) },
      // 0.0.0.0 stands for the workload's own address.
      ingress: [{ ...bound(ports.inbound, "http", "HTTP"), defaultEndpoint: `0.0.0.0:${ports.application}` }],
      egress: [{ ...bound(ports.outbound, "http-proxy", "HTTP_PROXY"), hosts: ["*/*"] }],
    },
  });
}

function gateway(): Json {
  return object(networking, "Gateway", "gateway", {
    spec: {
      selector: { istio: "ingressgateway" },
      servers: [{ port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*"] }],
    },
  });
}

function route(host: string, port: number, subset?: string, weight?: number): Json {
  return { destination: { host, ...(subset ? { subset } : {}), port: { number: port } }, ...(weight === undefined ? {} : { weight }) };
}

function bookinfoRoutes(): Json {
  const exact = (path: string) => ({ uri: { exact: path } });
  return object(networking, "VirtualService", "bookinfo", {
    spec: {
      hosts: ["*"],
      gateways: ["gateway"],
      http: [
        {
          match: [exact("/"), exact("/productpage"), exact("/login"), exact("/logout"), { uri: { prefix: "/api/v1/products" } }],
          route: [route("productpage", 9080)],
        },
      ],
    },
  });
}

function plainRoutes(): Json[] {
  return ["details", "ratings"].map((name) =>
    object(networking, "VirtualService", name, {
      spec: { hosts: [name], http: [{ route: [route(name, 9080)] }] },
    }),
  );
}

function subsets(host: string, versions: readonly string[]): Json {
  return object(networking, "DestinationRule", host, {
    spec: { host, subsets: versions.map((version) => ({ name: version, labels: { version } })) },
  });
}

function reviews(): Json[] {
  return [
    subsets("reviews", ["v1", "v2", "v3"]),
    object(networking, "VirtualService", "reviews", {
      spec: {
        hosts: ["reviews"],
        http: [{ route: [route("reviews", 9080, "v1", 0), route("reviews", 9080, "v2", 100), route("reviews", 9080, "v3", 0)] }],
      },
    }),
  ];
}

function localhostRoutes(name: string, port: number): Json {
  return object(networking, "VirtualService", name, {
    spec: { hosts: [`${name}.localhost`], gateways: ["gateway"], http: [{ route: [route(name, port)] }] },
  });
}

function customers(): Json[] {
  return [
    localhostRoutes("web-frontend", 80),
    subsets("customers", ["v1", "v2"]),
    object(networking, "VirtualService", "customers", {
      spec: {
        hosts: ["customers"],
        http: [{ route: [route("customers", 80, "v1", 100), route("customers", 80, "v2", 0)] }],
      },
    }),
  ];
}

const readme = `# Configuration of the quickstart

Every YAML file in this directory is in force while \`topsail quickstart\` runs; a change takes effect within a second. A document that is
wrong is reported in the terminal with file and line, and what was in force stays.

The files are written once, when the directory is new. Delete the directory to begin again.
`;
