import { describe, expect, it } from "vitest";
import { pushContextOf } from "../../../test/support/mesh.ts";
import { patchesOf } from "./envoy-filter-patches.ts";
import { PatchStatus } from "./patch-status.ts";

const cluster = (timeout: string) => `{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: ${timeout}}}}`;
const objectsWith = (name: string, ...patches: string[]) =>
  pushContextOf(`
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: ${name}, namespace: istio-system}
spec: {configPatches: [${patches}]}
`).envoyFilters.objects;

describe("PatchStatus", () => {
  const told: string[] = [];
  const status = new PatchStatus((_, reason) => told.push(reason));
  const [older] = objectsWith("x", cluster("1s"), cluster("2s"));
  const [first, second] = patchesOf(older!);
  status.applied(first!);
  status.failed(second!, "no");
  status.failed(second!, "no");

  it("tells of a failure once", () => {
    expect(told).toEqual(["no"]);
    expect(status.describe(older!)).toMatchObject([
      { patch: "configPatches[0]", applied: true, failures: [] },
      { patch: "configPatches[1]", applied: false, failures: ["no"] },
    ]);
  });

  it("remembers what stays of an object that changes, wherever in it that stands, and forgets the rest", () => {
    const newer = objectsWith("x", cluster("2s"), cluster("3s"));
    status.keep(newer);
    expect(status.describe(newer[0]!)).toMatchObject([
      { applied: false, failures: ["no"] },
      { applied: false, failures: [] },
    ]);
    status.keep(objectsWith("x", cluster("1s")));
    expect(status.describe(older!).map(({ applied, failures }) => ({ applied, failures }))).toEqual([
      { applied: false, failures: [] },
      { applied: false, failures: [] },
    ]);
  });

  it("forgets an object that goes, and keeps two of one text apart", () => {
    status.applied(first!);
    const [twin] = objectsWith("y", cluster("1s"));
    expect(status.describe(twin!)).toMatchObject([{ applied: false }]);
    status.keep([twin!]);
    expect(status.describe(older!)[0]).toMatchObject({ applied: false });
  });
});
