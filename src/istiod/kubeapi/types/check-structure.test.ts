import { describe, expect, it } from "vitest";
import { kindByName, kinds } from "../../../api/kinds/index.ts";
import type { KindName } from "../../../api/kinds/object.ts";
import { checkStructure } from "./check-structure.ts";
import { typeOfKind } from "./object-types.ts";

function check(kind: KindName, object: unknown) {
  return checkStructure(object, typeOfKind(kindByName(kind)!));
}

describe("checkStructure", () => {
  it("names unknown fields with their path, and takes them out", () => {
    const object = {
      metadata: { name: "d", lables: {} },
      spec: { replica: 1, template: { spec: { containers: [{ name: "a", imgae: "x", volumeMounts: [{ mountpath: "/" }] }] } } },
    };
    const { value, unknownFields } = check("Deployment", object);
    expect(unknownFields).toEqual([
      "metadata.lables",
      "spec.replica",
      "spec.template.spec.containers[0].imgae",
      "spec.template.spec.containers[0].volumeMounts[0].mountpath",
    ]);
    expect(value).toEqual({ metadata: { name: "d" }, spec: { template: { spec: { containers: [{ name: "a", volumeMounts: [{}] }] } } } });
  });

  it("knows the fields of messages that stand in others, and leaves alone what it has nothing to say to", () => {
    const object = {
      spec: {
        containers: [
          {
            name: "a",
            livenessProbe: { httpGet: { port: "http" } },
            env: [{ name: "E", valueFrom: { configMapKeyRef: { name: "c", key: "k" } } }],
          },
        ],
        volumes: [{ name: "v", emptyDir: {} }],
      },
    };
    const { value, unknownFields, mismatches } = check("Pod", object);
    expect([unknownFields, mismatches]).toEqual([[], []]);
    expect(value).toBe(object);
  });

  it("takes Istio's fields in both spellings, whatever stands in a Struct, and the keys of a map", () => {
    expect(
      check("DestinationRule", { spec: { host: "a", trafficPolicy: { outlier_detection: { maxEjectionPercent: 1 } } } }).unknownFields,
    ).toEqual([]);
    expect(check("EnvoyFilter", { spec: { configPatches: [{ patch: { value: { any: { thing: 1 } } } }] } }).unknownFields).toEqual([]);
    expect(check("VirtualService", { spec: { http: [{ match: [{ headers: { "x-any": { exactt: "1" } } }] }] } }).unknownFields).toEqual([
      "spec.http[0].match[0].headers.x-any.exactt",
    ]);
  });

  it("takes out nulls, which say nothing", () => {
    expect(check("Deployment", { metadata: { creationTimestamp: null }, spec: { replicas: null, paused: true } }).value).toEqual({
      metadata: {},
      spec: { paused: true },
    });
  });

  it("tells values of another type", () => {
    expect(
      check("Deployment", {
        metadata: { labels: { a: 1 } },
        spec: { replicas: "two", selector: [], template: { spec: { containers: {} } } },
      }).mismatches,
    ).toEqual([
      { field: "metadata.labels.a", message: "must be a string, not a number" },
      { field: "spec.replicas", message: "must be a whole number, not a string" },
      { field: "spec.selector", message: "must be an object, not a list" },
      { field: "spec.template.spec.containers", message: "must be a list, not an object" },
    ]);
  });

  it("has a type for every kind", () => {
    for (const kind of kinds)
      expect([...typeOfKind(kind).fields.keys()], kind.kind).toEqual(expect.arrayContaining(["apiVersion", "kind", "metadata"]));
  });
});
