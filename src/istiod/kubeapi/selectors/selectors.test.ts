import { describe, expect, it } from "vitest";
import { kindByName } from "../../../api/kinds/index.ts";
import { parseFieldSelector } from "./field-selector.ts";
import { parseLabelSelector } from "./label-selector.ts";

const objects = {
  v1: { app: "reviews", version: "v1" },
  v2: { app: "reviews", version: "v2", canary: "" },
  other: { app: "ratings", weight: "5" },
  none: {},
};

describe("parseLabelSelector", () => {
  it.each<[string, string]>([
    ["", "v1 v2 other none"],
    ["app=reviews", "v1 v2"],
    ["app==reviews", "v1 v2"],
    [" app = reviews , version = v2 ", "v2"],
    ["app!=reviews", "other none"],
    ["version in (v1, v3)", "v1"],
    ["version in (v1,v2),app=reviews", "v1 v2"],
    ["version notin (v1)", "v2 other none"],
    ["version", "v1 v2"],
    ["!version", "other none"],
    ["! version,app", "other"],
    ["canary=", "v2"],
    ["app in (reviews),!canary", "v1"],
    ["weight>4", "other"],
    ["weight < 5", ""],
    ["toString", ""],
  ])("%j chooses %s", (selector, names) => {
    const matches = parseLabelSelector(selector);
    expect(
      Object.entries(objects)
        .filter(([, labels]) => matches(labels))
        .map(([name]) => name)
        .join(" "),
    ).toBe(names);
  });

  it.each(["=", "app=a b", "app in", "app in (a", "app notin a)", "a/b/c d", "-app", "app=_x", "app in ((a))", `a=${"x".repeat(70_000)}`])(
    "refuses %.20j",
    (selector) => {
      expect(() => parseLabelSelector(selector)).toThrow(expect.objectContaining({ code: 400 }));
    },
  );

  it("is not held up by long text that almost fits", () => {
    expect(() => parseLabelSelector(`${"a-".repeat(8000)}=`)).toThrow();
    expect(() => parseLabelSelector(`a=${"b.".repeat(8000)}`)).toThrow();
  });
});

describe("parseFieldSelector", () => {
  const pod = { metadata: { name: "a,b", namespace: "default" }, status: { phase: "Running" } };

  it.each<[string, boolean]>([
    ["", true],
    ["metadata.name=a\\,b", true],
    ["metadata.namespace!=kube-system,status.phase==Running", true],
    ["status.phase=Pending", false],
    ["spec.nodeName=", true],
  ])("%j of a pod: %s", (selector, matches) => {
    expect(parseFieldSelector(selector, kindByName("Pod")!).matches(pod)).toBe(matches);
  });

  it("refuses fields that the kind can't be chosen by, and names those that it can", () => {
    expect(() => parseFieldSelector("spec.hosts=a", kindByName("VirtualService")!)).toThrow('only "metadata.name", "metadata.namespace"');
    expect(() => parseFieldSelector("constructor=a", kindByName("Pod")!)).toThrow("not a known field selector");
    expect(() => parseFieldSelector("metadata.name", kindByName("Pod")!)).toThrow("can't understand it");
  });
});
