import { describe, expect, it } from "vitest";
import { kindByName } from "../../../api/kinds/index.ts";
import { typeOfKind } from "../types/object-types.ts";
import { strategicMerge } from "./strategic-merge.ts";

const deployment = typeOfKind(kindByName("Deployment")!);
const service = typeOfKind(kindByName("Service")!);

function podOf(spec: unknown) {
  return { spec: { template: { spec } } };
}

const containers = [
  {
    name: "app",
    image: "app:1",
    env: [
      { name: "A", value: "1" },
      { name: "B", value: "2" },
    ],
  },
  { name: "proxy", image: "proxy:1" },
];

/** As k8s.io/apimachinery's strategicpatch has it, but that it leaves nulls and directives in what a patch adds. */
describe("strategicMerge", () => {
  it.each<[string, unknown, unknown, unknown]>([
    [
      "merges containers by name",
      { containers },
      { containers: [{ name: "proxy", image: "proxy:2" }] },
      { containers: [containers[0], { name: "proxy", image: "proxy:2" }] },
    ],
    [
      "adds a container that is not there, before all that the patch says nothing of",
      { containers },
      { containers: [{ name: "new", image: "n" }] },
      { containers: [{ name: "new", image: "n" }, ...containers] },
    ],
    ["deletes a container", { containers }, { containers: [{ name: "app", $patch: "delete" }] }, { containers: [containers[1]] }],
    ["replaces the list", { containers }, { containers: [{ name: "x" }, { $patch: "replace" }] }, { containers: [{ name: "x" }] }],
    [
      "merges lists in items of lists",
      { containers },
      { containers: [{ name: "app", env: [{ name: "B", value: "3" }] }] },
      {
        containers: [
          {
            ...containers[0],
            env: [
              { name: "A", value: "1" },
              { name: "B", value: "3" },
            ],
          },
          containers[1],
        ],
      },
    ],
    [
      "deletes an item in an item",
      { containers },
      { containers: [{ name: "app", env: [{ name: "A", $patch: "delete" }] }] },
      { containers: [{ ...containers[0], env: [{ name: "B", value: "2" }] }, containers[1]] },
    ],
    [
      "orders what the patch names, and leaves others where they were",
      { containers: [{ name: "a" }, { name: "b" }, { name: "c" }] },
      { "$setElementOrder/containers": [{ name: "c" }, { name: "a" }], containers: [{ name: "a", image: "x" }] },
      { containers: [{ name: "b" }, { name: "c" }, { name: "a", image: "x" }] },
    ],
    ["takes a field away", { hostname: "h", subdomain: "s" }, { hostname: null }, { subdomain: "s" }],
    [
      "replaces a list that is one value",
      { tolerations: [{ key: "a" }] },
      { tolerations: [{ key: "b" }] },
      { tolerations: [{ key: "b" }] },
    ],
    ["merges a map", { nodeSelector: { a: "1", b: "2" } }, { nodeSelector: { b: null, c: "3" } }, { nodeSelector: { a: "1", c: "3" } }],
    [
      "replaces an object",
      { securityContext: { runAsUser: 1, fsGroup: 2 } },
      { securityContext: { $patch: "replace", runAsUser: 3 } },
      { securityContext: { runAsUser: 3 } },
    ],
    ["deletes an object", { securityContext: { runAsUser: 1 } }, { securityContext: { $patch: "delete" } }, {}],
    [
      "keeps the members of a choice that the patch retains",
      { volumes: [{ name: "v", emptyDir: { medium: "Memory" } }] },
      { volumes: [{ name: "v", $retainKeys: ["name", "secret"], secret: { secretName: "s" } }] },
      { volumes: [{ name: "v", secret: { secretName: "s" } }] },
    ],
    ["makes what is not there", {}, { containers: [{ name: "a" }] }, { containers: [{ name: "a" }] }],
  ])("%s", (_, before, patch, after) => {
    const target = podOf(before);
    const copy = structuredClone(target);
    expect(strategicMerge(target, podOf(patch), deployment)).toEqual(podOf(after));
    expect(target).toEqual(copy);
  });

  it("merges a Service's ports by number", () => {
    const ports = [
      { port: 80, name: "http" },
      { port: 443, name: "https" },
    ];
    expect(strategicMerge({ spec: { ports } }, { spec: { ports: [{ port: 443, targetPort: 8443 }] } }, service)).toEqual({
      spec: { ports: [ports[0], { port: 443, name: "https", targetPort: 8443 }] },
    });
  });

  it("merges lists of plain values, and deletes from them", () => {
    const of = (finalizers: string[]) => ({ metadata: { finalizers } });
    expect(strategicMerge(of(["a", "b"]), of(["b", "c"]), service)).toEqual(of(["a", "b", "c"]));
    expect(strategicMerge(of(["a", "b"]), { metadata: { "$deleteFromPrimitiveList/finalizers": ["a"] } }, service)).toEqual(of(["b"]));
  });

  it("changes the strategy of a Deployment without remains of the old one", () => {
    const before = { spec: { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1 } } } };
    const patch = { spec: { strategy: { $retainKeys: ["type"], type: "Recreate" } } };
    expect(strategicMerge(before, patch, deployment)).toEqual({ spec: { strategy: { type: "Recreate" } } });
  });

  it.each<[string, unknown, string]>([
    ["a list", [], "is an object"],
    ["an unknown directive", { spec: { $patch: "swap" } }, "unknown directive"],
    ["an item without its key", podOf({ containers: [{ image: "x" }] }), 'no merge key "name"'],
    ["an order that is no list", podOf({ "$setElementOrder/containers": 1 }), "is not a list"],
    ["keys to retain that are no list", { spec: { $retainKeys: 1 } }, "is not a list"],
  ])("refuses %s", (_, patch, message) => {
    expect(() => strategicMerge(podOf({ containers }), patch, deployment)).toThrow(message);
  });
});
