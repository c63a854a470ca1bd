import { describe, expect, it } from "vitest";
import { objectsOf } from "../../../test/support/mesh.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { PeerAuthentication } from "../../api/kinds/peer-authentication.ts";
import { modeOfPort, PeerAuthenticationIndex } from "./peer-authentication.ts";

const root = "istio-system";

/** `namespace: spec` lines, the first the oldest. */
function indexOf(...policies: readonly (readonly [namespace: string, spec: string])[]): PeerAuthenticationIndex {
  const yaml = policies.map(
    ([namespace, spec], index) =>
      `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p${index}, namespace: ${namespace}}, spec: ${spec}}`,
  );
  return new PeerAuthenticationIndex(objectsOf(yaml.join("\n---\n"))("PeerAuthentication") as ConfigObject<PeerAuthentication>[], root);
}

const web = "selector: {matchLabels: {app: web}}";
const mode = (name: string) => `mtls: {mode: ${name}}`;

describe("PeerAuthenticationIndex", () => {
  // Workload app=web of namespace shop; its port 8080 where the last column says so.
  it.each<[what: string, policies: [string, string][], mode: string, port8080?: string]>([
    ["nothing is written: permissive", [], "PERMISSIVE"],
    ["the mesh's policy", [[root, `{${mode("STRICT")}}`]], "STRICT"],
    ["the mesh's policy disables", [[root, `{${mode("DISABLE")}}`]], "DISABLE"],
    ["the mesh's policy says nothing", [[root, "{}"]], "PERMISSIVE"],
    ["the mesh's policy is UNSET", [[root, `{${mode("UNSET")}}`]], "PERMISSIVE"],
    ["an empty selector is none", [[root, `{selector: {matchLabels: {}}, ${mode("STRICT")}}`]], "STRICT"],
    ["a selector in the root namespace counts for nobody", [[root, `{${web}, ${mode("STRICT")}}`]], "PERMISSIVE"],
    [
      "namespace over mesh",
      [
        [root, `{${mode("STRICT")}}`],
        ["shop", `{${mode("PERMISSIVE")}}`],
      ],
      "PERMISSIVE",
    ],
    ["another namespace's policy", [["other", `{${mode("STRICT")}}`]], "PERMISSIVE"],
    [
      "workload over namespace",
      [
        ["shop", `{${mode("STRICT")}}`],
        ["shop", `{${web}, ${mode("DISABLE")}}`],
      ],
      "DISABLE",
    ],
    [
      "workload over mesh",
      [
        [root, `{${mode("STRICT")}}`],
        ["shop", `{${web}, ${mode("PERMISSIVE")}}`],
      ],
      "PERMISSIVE",
    ],
    ["another workload's policy", [["shop", `{selector: {matchLabels: {app: db}}, ${mode("STRICT")}}`]], "PERMISSIVE"],
    [
      "a selector of which a label is missing",
      [["shop", `{selector: {matchLabels: {app: web, v: "2"}}, ${mode("STRICT")}}`]],
      "PERMISSIVE",
    ],
    [
      "the workload inherits from the namespace",
      [
        ["shop", `{${mode("STRICT")}}`],
        ["shop", `{${web}}`],
      ],
      "STRICT",
    ],
    [
      "the workload inherits from the mesh",
      [
        [root, `{${mode("STRICT")}}`],
        ["shop", `{${web}, ${mode("UNSET")}}`],
      ],
      "STRICT",
    ],
    [
      "through an UNSET namespace from the mesh",
      [
        [root, `{${mode("STRICT")}}`],
        ["shop", `{${mode("UNSET")}}`],
        ["shop", `{${web}}`],
      ],
      "STRICT",
    ],
    [
      "the oldest of the mesh",
      [
        [root, `{${mode("DISABLE")}}`],
        [root, `{${mode("STRICT")}}`],
      ],
      "DISABLE",
    ],
    [
      "the oldest of the mesh, though it is UNSET",
      [
        [root, "{}"],
        [root, `{${mode("STRICT")}}`],
      ],
      "PERMISSIVE",
    ],
    [
      "the oldest of a namespace",
      [
        ["shop", `{${mode("STRICT")}}`],
        ["shop", `{${mode("DISABLE")}}`],
      ],
      "STRICT",
    ],
    [
      "the oldest for a workload",
      [
        ["shop", `{${web}, ${mode("STRICT")}}`],
        ["shop", `{${web}, ${mode("DISABLE")}}`],
      ],
      "STRICT",
    ],
    [
      "the oldest for a workload alone counts, also for ports",
      [
        ["shop", `{${web}, ${mode("STRICT")}}`],
        ["shop", `{${web}, portLevelMtls: {8080: {mode: DISABLE}}}`],
      ],
      "STRICT",
      "STRICT",
    ],
    ["a port of its own", [["shop", `{${web}, ${mode("STRICT")}, portLevelMtls: {8080: {mode: DISABLE}}}`]], "STRICT", "DISABLE"],
    ["a port without a mode of the workload", [["shop", `{${web}, portLevelMtls: {8080: {mode: STRICT}}}`]], "PERMISSIVE", "STRICT"],
    [
      "an UNSET port is as the workload",
      [
        [root, `{${mode("DISABLE")}}`],
        ["shop", `{${web}, ${mode("STRICT")}, portLevelMtls: {8080: {mode: UNSET}}}`],
      ],
      "STRICT",
      "STRICT",
    ],
    [
      "an UNSET port of an UNSET workload is as the mesh",
      [
        [root, `{${mode("STRICT")}}`],
        ["shop", `{${web}, portLevelMtls: {8080: {}}}`],
      ],
      "STRICT",
      "STRICT",
    ],
    ["another port", [["shop", `{${web}, portLevelMtls: {9090: {mode: STRICT}}}`]], "PERMISSIVE", "PERMISSIVE"],
  ])("%s", (_, policies, expected, port8080) => {
    const workload = indexOf(...policies).forWorkload("shop", { app: "web", version: "v1" });
    expect(workload.mode).toBe(expected);
    expect(modeOfPort(workload, 8080)).toBe(port8080 ?? expected);
  });

  it("tells clients of a namespace what holds without selectors", () => {
    const index = indexOf(
      [root, `{${mode("STRICT")}}`],
      ["shop", `{${web}, ${mode("DISABLE")}}`],
      ["shop", `{${mode("PERMISSIVE")}}`],
      ["unset", "{}"],
    );
    expect(["shop", "unset", "silent", root].map((namespace) => index.forNamespace(namespace))).toEqual([
      "PERMISSIVE",
      "STRICT",
      "STRICT",
      "STRICT",
    ]);
  });
});
