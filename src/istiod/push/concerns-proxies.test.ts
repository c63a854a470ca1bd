import { describe, expect, it } from "vitest";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { concernsProxies } from "./concerns-proxies.ts";

function objectOf(kind: string, more: object = {}): ConfigObject {
  const apiVersion =
    kind === "Ingress"
      ? "networking.k8s.io/v1"
      : kind === "Deployment"
        ? "apps/v1"
        : kind === "VirtualService"
          ? "networking.istio.io/v1"
          : "v1";
  return decodeObject({ apiVersion, kind, metadata: { name: "x", namespace: "default" }, ...more }).object!;
}

const replicas = (count: number, status = {}) => objectOf("Deployment", { spec: { replicas: count }, status });

const ingress = (host: string, status = {}) => objectOf("Ingress", { spec: { rules: [{ host, http: { paths: [] } }] }, status });

describe("concernsProxies", () => {
  it.each<[string, ConfigObject | undefined, ConfigObject | undefined, boolean]>([
    ["a VirtualService that is made", undefined, objectOf("VirtualService"), true],
    ["a VirtualService that goes", objectOf("VirtualService"), undefined, true],
    ["an Event", undefined, objectOf("Event"), false],
    ["an account", undefined, objectOf("ServiceAccount"), false],
    ["an Ingress that is made", undefined, ingress("a.test"), true],
    ["an Ingress's status", ingress("a.test"), ingress("a.test", { loadBalancer: { ingress: [{ ip: "10.0.0.1" }] } }), false],
    ["an Ingress's rules", ingress("a.test"), ingress("b.test"), true],
    ["an Ingress that goes", ingress("a.test"), undefined, true],
    ["a Deployment's status", replicas(1), replicas(1, { replicas: 1 }), false],
    ["a Deployment's status while it is stopped", replicas(0), replicas(0, { replicas: 1 }), false],
    ["more replicas", replicas(1), replicas(3), false],
    ["a Deployment that is stopped", replicas(1), replicas(0), true],
    ["a Deployment that is started again", replicas(0), replicas(1), true],
    ["a stopped Deployment that is made", undefined, replicas(0), true],
    ["a stopped Deployment that goes", replicas(0), undefined, true],
    ["a Deployment that goes", replicas(1), undefined, false],
  ])("%s", (_, previous, object, concerns) => {
    const type = previous === undefined ? "added" : object === undefined ? "deleted" : "modified";
    expect(concernsProxies({ type, object: (object ?? previous)!, previous, revision: 1 })).toBe(concerns);
  });
});
