import { describe, expect, it } from "vitest";
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { isAboutEndpoints } from "./endpoint-events.ts";

function objectOf(kind: string, spec: object, more: object = {}): ConfigObject {
  const apiVersion = "networking.istio.io/v1";
  const { object, errors } = decodeObject({ apiVersion, kind, metadata: { name: "x", namespace: "default", ...more }, spec });
  if (!object) throw errors[0];
  return object;
}

const workload = (address: string) => objectOf("WorkloadEntry", { address });

function entry(addresses: string[], more: object = {}, metadata: object = {}): ConfigObject {
  const ports = [{ number: 80, name: "http", protocol: "HTTP" }];
  const endpoints = addresses.map((address) => ({ address }));
  return objectOf("ServiceEntry", { hosts: ["a.test"], resolution: "STATIC", ports, endpoints, ...more }, metadata);
}

describe("isAboutEndpoints", () => {
  it.each<[string, ConfigObject | undefined, ConfigObject | undefined, boolean]>([
    ["a WorkloadEntry that comes", undefined, workload("10.0.0.1"), true],
    ["a WorkloadEntry that moves", workload("10.0.0.1"), workload("10.0.0.2"), true],
    ["a WorkloadEntry that goes", workload("10.0.0.1"), undefined, true],
    ["a ServiceEntry that is made", undefined, entry(["10.0.0.1"]), false],
    ["a ServiceEntry that goes", entry(["10.0.0.1"]), undefined, false],
    ["other endpoints of a ServiceEntry", entry(["10.0.0.1"]), entry(["10.0.0.2", "10.0.0.3"]), true],
    ["other endpoints and another host", entry(["10.0.0.1"]), entry(["10.0.0.2"], { hosts: ["b.test"] }), false],
    ["who sees a ServiceEntry", entry(["10.0.0.1"]), entry(["10.0.0.1"], { exportTo: ["."] }), false],
    ["labels of a ServiceEntry", entry(["10.0.0.1"]), entry(["10.0.0.1"], {}, { labels: { app: "a" } }), false],
    ["a VirtualService", objectOf("VirtualService", { hosts: ["a"] }), objectOf("VirtualService", { hosts: ["b"] }), false],
  ])("%s", (_, previous, object, expected) => {
    const type = previous === undefined ? "added" : object === undefined ? "deleted" : "modified";
    expect(isAboutEndpoints({ type, object: (object ?? previous)!, previous, revision: 1 })).toBe(expected);
  });
});
