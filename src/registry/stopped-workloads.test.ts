import { describe, expect, it } from "vitest";
import { decodeDocuments } from "../api/documents/decode-documents.ts";
import type { ConfigObject } from "../api/kinds/object.ts";
import { Registry } from "./registry.ts";

const service = `
apiVersion: v1
kind: Service
metadata: { name: ratings }
spec: { selector: { app: ratings }, ports: [{ name: http, port: 9080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: ratings-v1-a, labels: { app: ratings, version: v1 } }
spec: { containers: [] }
status: { podIP: 10.0.0.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: ratings-v2-a, labels: { app: ratings, version: v2 } }
spec: { containers: [] }
status: { podIP: 10.0.0.2 }
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: ratings-vm, labels: { app: ratings, version: v1 } }
spec: { address: 10.0.0.3, labels: { app: ratings, version: v1 } }
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: ratings-owned
  ownerReferences: [{ apiVersion: apps/v1, kind: Deployment, name: ratings-v1, uid: u }]
spec: { address: 10.0.0.4, labels: { app: ratings } }
`;

function deployment(replicas: string, namespace = "default"): string {
  return `---
apiVersion: apps/v1
kind: Deployment
metadata: { name: ratings-v1, namespace: ${namespace} }
spec: { ${replicas} selector: { matchLabels: { app: ratings, version: v1 } }, template: { metadata: { labels: { app: ratings, version: v1 } } } }
`;
}

function addressesWith(text: string): string[] {
  const { objects, errors } = decodeDocuments(`${service}${text}`, "registry.yaml");
  expect(errors).toEqual([]);
  const registry = new Registry((kind) => objects.filter((object: ConfigObject) => object.kind === kind), {
    domain: "cluster.local",
    defaultServiceExportTo: ["*"],
  });
  return registry.endpoints(registry.byHost("ratings.default.svc.cluster.local")[0]!).map(({ address }) => address);
}

const all = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];

describe("a Deployment with replicas: 0", () => {
  it("takes its pods and what it owns out of the endpoints, and leaves a VM of the same labels", () => {
    expect(addressesWith(deployment("replicas: 0,"))).toEqual(["10.0.0.2", "10.0.0.3"]);
  });

  it.each<[string, string]>([
    ["one replica", deployment("replicas: 1,")],
    ["replicas that aren't written", deployment("")],
    ["another namespace", deployment("replicas: 0,", "other")],
    ["no Deployment at all", ""],
  ])("does not with %s", (_, text) => {
    expect(addressesWith(text)).toEqual(all);
  });
});
