import { describe, expect, it } from "vitest";
import { objectsOf } from "../../../test/support/mesh.ts";
import type { AuthorizationPolicy } from "../../api/kinds/authorization-policy.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { PolicyIndex } from "./policy-index.ts";

const policy = (namespace: string, name: string, attachment = "") =>
  `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: ${name}, namespace: ${namespace}}, spec: {${attachment}}}\n---\n`;
const select = (labels: string) => `selector: {matchLabels: {${labels}}}`;
const gateway = (name: string) => `targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: ${name}}]`;

const indexOf = (yaml: string) =>
  new PolicyIndex(objectsOf(yaml)("AuthorizationPolicy") as ConfigObject<AuthorizationPolicy>[], "istio-system");
const namesIn = (index: PolicyIndex<AuthorizationPolicy>, namespace: string, labels: Record<string, string> = {}) =>
  index.forWorkload({ namespace, labels }).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);

describe("PolicyIndex", () => {
  it("gives those of the root namespace, then those of the workload's, the oldest first", () => {
    const index = indexOf(
      policy("shop", "b") +
        policy("istio-system", "z") +
        policy("shop", "a", select("app: web")) +
        policy("istio-system", "y") +
        policy("other", "c"),
    );
    expect(namesIn(index, "shop", { app: "web" })).toEqual(["istio-system/z", "istio-system/y", "shop/b", "shop/a"]);
    expect(namesIn(index, "istio-system")).toEqual(["istio-system/z", "istio-system/y"]);
    expect(namesIn(index, "nowhere")).toEqual(["istio-system/z", "istio-system/y"]);
  });

  it("asks for all labels of a selector, of the root namespace's in every namespace", () => {
    const index = indexOf(
      policy("shop", "both", select("app: web, version: v1")) +
        policy("shop", "version", select("version: v1")) +
        policy("istio-system", "web", select("app: web")) +
        policy("shop", "empty", "selector: {matchLabels: {}}"),
    );
    expect(namesIn(index, "shop", { app: "web", version: "v1" })).toEqual(["istio-system/web", "shop/both", "shop/version", "shop/empty"]);
    expect(namesIn(index, "shop", { app: "web", version: "v2" })).toEqual(["istio-system/web", "shop/empty"]);
    expect(namesIn(index, "shop", { app: "api", version: "v1" })).toEqual(["shop/version", "shop/empty"]);
    expect(namesIn(index, "other", { app: "web" })).toEqual(["istio-system/web"]);
  });

  it("attaches to a gateway of the Gateway API by its name, in its namespace", () => {
    const index = indexOf(
      policy("shop", "targeted", gateway("edge")) +
        policy("other", "elsewhere", gateway("edge")) +
        policy("shop", "service", 'targetRefs: [{group: "", kind: Service, name: edge}]') +
        policy("shop", "all") +
        policy("shop", "legacy", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge}"),
    );
    const label = "gateway.networking.k8s.io/gateway-name";
    expect(namesIn(index, "shop", { [label]: "edge" })).toEqual(["shop/targeted", "shop/all", "shop/legacy"]);
    expect(namesIn(index, "shop", { [label]: "inner" })).toEqual(["shop/all"]);
    // A policy with targets is for nobody else.
    expect(namesIn(index, "shop", { app: "edge" })).toEqual(["shop/all"]);
  });

  it("gives the same list to all whom no selector tells apart", () => {
    const index = indexOf(policy("shop", "web", select("app: web")) + policy("shop", "all"));
    const list = index.forWorkload({ namespace: "shop", labels: { app: "web", pod: "1" } });
    expect(index.forWorkload({ namespace: "shop", labels: { app: "web", pod: "2" } })).toBe(list);
    expect(index.forWorkload({ namespace: "shop", labels: { app: "api", pod: "1" } })).not.toBe(list);
  });
});
