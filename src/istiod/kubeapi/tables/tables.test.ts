import { describe, expect, it } from "vitest";
import { kindByName } from "../../../api/kinds/index.ts";
import type { KindName } from "../../../api/kinds/object.ts";
import { formatAge } from "./age.ts";
import { columnDefinitions, rowOf } from "./table.ts";

const [s, m, h, d] = [1000, 60_000, 3_600_000, 86_400_000];

describe("formatAge", () => {
  // k8s.io/apimachinery pkg/util/duration, TestHumanDuration and its bounds.
  it.each<[number, string]>([
    [-2 * s, "<invalid>"],
    [-s / 2, "0s"],
    [0, "0s"],
    [70 * s, "70s"],
    [119 * s, "119s"],
    [2 * m, "2m"],
    [3 * m + 20 * s, "3m20s"],
    [10 * m + 20 * s, "10m"],
    [179 * m, "179m"],
    [3 * h, "3h"],
    [7 * h + 59 * m, "7h59m"],
    [8 * h + 20 * m, "8h"],
    [47 * h, "47h"],
    [48 * h, "2d"],
    [7 * d + 23 * h, "7d23h"],
    [8 * d + 23 * h, "8d"],
    [729 * d, "729d"],
    [730 * d, "2y"],
    [2 * 365 * d + 34 * d, "2y34d"],
    [9 * 365 * d + 34 * d, "9y"],
  ])("%i ms is %s", (ageMs, text) => {
    expect(formatAge(ageMs)).toBe(text);
  });
});

describe("tables", () => {
  const nowMs = Date.parse("2026-01-01T01:00:00Z");
  const metadata = { name: "x", creationTimestamp: "2026-01-01T00:50:00Z" };
  const cellsOf = (kind: KindName, raw: object) => rowOf({ metadata, ...raw }, kindByName(kind)!, "None", nowMs).cells;

  it.each<[KindName, string, object, unknown[]]>([
    ["VirtualService", "Name Gateways Hosts Age", { spec: { gateways: ["gw"], hosts: ["*"] } }, ["x", '["gw"]', '["*"]', "10m"]],
    ["VirtualService", "Name Gateways Hosts Age", { spec: {} }, ["x", "", "", "10m"]],
    ["PeerAuthentication", "Name Mode Age", { spec: { mtls: { mode: "STRICT" } } }, ["x", "STRICT", "10m"]],
    ["Gateway", "Name Age", {}, ["x", "10m"]],
    ["WorkloadEntry", "Name Age Address", { spec: { address: "10.0.0.1" } }, ["x", "10m", "10.0.0.1"]],
    ["Namespace", "Name Status Age", { status: { phase: "Terminating" } }, ["x", "Terminating", "10m"]],
    ["ConfigMap", "Name Data Age", { data: { a: "1" }, binaryData: { b: "" } }, ["x", "2", "10m"]],
    ["Secret", "Name Type Data Age", { type: "Opaque", data: { a: "" } }, ["x", "Opaque", "1", "10m"]],
    ["ServiceAccount", "Name Secrets Age", {}, ["x", "0", "10m"]],
    [
      "Service",
      "Name Type Cluster-IP External-IP Port(s) Age Selector*",
      {
        spec: {
          type: "LoadBalancer",
          clusterIP: "10.96.0.1",
          ports: [
            { port: 80, nodePort: 31380, protocol: "TCP" },
            { port: 53, protocol: "UDP" },
          ],
          selector: { b: "2", a: "1" },
        },
      },
      ["x", "LoadBalancer", "10.96.0.1", "<pending>", "80:31380/TCP,53/UDP", "10m", "a=1,b=2"],
    ],
    [
      "Deployment",
      "Name Ready Up-to-date Available Age Containers* Images* Selector*",
      {
        spec: { replicas: 3, selector: { matchLabels: { app: "x" } }, template: { spec: { containers: [{ name: "c", image: "i" }] } } },
        status: { readyReplicas: 1, updatedReplicas: 2, availableReplicas: 1 },
      },
      ["x", "1/3", "2", "1", "10m", "c", "i", "app=x"],
    ],
    [
      "Pod",
      "Name Ready Status Restarts Age IP* Node* Nominated Node* Readiness Gates*",
      {
        spec: { containers: [{ name: "a" }, { name: "b" }], nodeName: "n" },
        status: {
          phase: "Running",
          podIP: "10.0.0.9",
          containerStatuses: [
            { name: "a", ready: true, restartCount: 2, state: { running: {} } },
            { name: "b", ready: false, state: { waiting: { reason: "CrashLoopBackOff" } } },
          ],
        },
      },
      ["x", "1/2", "CrashLoopBackOff", "2", "10m", "10.0.0.9", "n", "<none>", "<none>"],
    ],
    [
      "Endpoints",
      "Name Endpoints Age",
      { subsets: [{ addresses: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }], ports: [{ port: 80 }] }] },
      ["x", "10.0.0.1:80,[fd00::1]:80", "10m"],
    ],
    [
      "EndpointSlice",
      "Name AddressType Ports Endpoints Age",
      { addressType: "IPv4", ports: [{ port: 80 }], endpoints: [1, 2, 3, 4].map((n) => ({ addresses: [`10.0.0.${n}`] })) },
      ["x", "IPv4", "80", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...", "10m"],
    ],
    [
      "Ingress",
      "Name Class Hosts Address Ports Age",
      { spec: { rules: [{ host: "a.com" }], tls: [{}] } },
      ["x", "<none>", "a.com", "", "80, 443", "10m"],
    ],
    [
      "IngressClass",
      "Name Controller Parameters Age",
      { spec: { controller: "istio.io/ingress-controller", parameters: { apiGroup: "a.io", kind: "Settings", name: "s" } } },
      ["x", "istio.io/ingress-controller", "Settings.a.io/s", "10m"],
    ],
    [
      "Event",
      "Last Seen Type Reason Object Subobject* Source* Message First Seen* Count* Name*",
      {
        type: "Normal",
        reason: "Started",
        message: "it runs\n",
        involvedObject: { kind: "Pod", name: "p" },
        lastTimestamp: "2026-01-01T00:59:00Z",
        source: { component: "kubelet" },
      },
      ["60s", "Normal", "Started", "pod/p", "", "kubelet", "it runs", "10m", 1, "x"],
    ],
  ])("of %s have the columns %s", (kind, columns, raw, cells) => {
    const names = (columnDefinitions(kindByName(kind)!) as { name: string; priority: number }[]).map(
      ({ name, priority }) => `${name}${priority > 0 ? "*" : ""}`,
    );
    expect(names.join(" ")).toBe(columns);
    expect(cellsOf(kind, raw)).toEqual(cells);
  });
});
