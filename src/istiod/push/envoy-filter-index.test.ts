import { describe, expect, it } from "vitest";
import { objectsOf, pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { defaultMesh } from "../../api/mesh/decode-mesh.ts";
import type { ProxyNode } from "../../api/node.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { PushContext } from "./push-context.ts";
import { planPush, scopeFor } from "./push-request.ts";

const filter = (name: string, patches: string, more = "", namespace = "istio-system") => `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: ${name}, namespace: ${namespace}}
spec: {${more}configPatches: [${patches}]}
---`;
const cluster = "{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 3s}}}";
const http = (context: string) =>
  `{applyTo: HTTP_FILTER, match: {context: ${context}}, patch: {operation: INSERT_BEFORE, value: {name: a, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}}}`;
const route = "{applyTo: HTTP_ROUTE, patch: {operation: REMOVE}}";
const forApp = "workloadSelector: {labels: {app: a}}, ";

const [gateway, a, b] = [routerNode(), sidecarNode({ labels: { app: "a" } }), sidecarNode({ ip: "10.9.1.2", labels: { app: "b" } })];

describe("EnvoyFilterIndex", () => {
  it("gives proxies that have the same patches one list", () => {
    const { envoyFilters } = pushContextOf(filter("all", cluster) + filter("one", http("ANY"), forApp, "default"));
    const [ofA, ofB] = [envoyFilters.forProxy(a), envoyFilters.forProxy(b)];
    expect(envoyFilters.forProxy(sidecarNode({ ip: "10.9.1.3" }))).toBe(ofB);
    expect(ofA.key).not.toBe(ofB.key);
    expect(ofA.clusterKey, "clusters are the same for both").toBe(ofB.clusterKey);
    expect(ofA.of("HTTP_FILTER", "SIDECAR_INBOUND").map(({ object }) => object.metadata.name)).toEqual(["one"]);
  });

  it("keeps a gateway's patches from sidecars, and the other way round", () => {
    const { envoyFilters } = pushContextOf(filter("x", [http("GATEWAY"), http("SIDECAR_OUTBOUND"), http("ANY")].join()));
    const indices = (proxy: ProxyNode) =>
      envoyFilters
        .forProxy(proxy)
        .all("HTTP_FILTER")
        .map(({ index }) => index);
    expect(indices(gateway)).toEqual([0, 2]);
    expect(indices(a)).toEqual([1, 2]);
  });

  it("has nothing where there is nothing", () => {
    expect(pushContextOf("").envoyFilters.forProxy(a).key).toBe("");
  });
});

describe("a push of EnvoyFilters", () => {
  const { cds, lds, rds, ecds } = typeUrls;
  const base = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s, namespace: default}
spec: {hosts: [s.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---`;

  /** Types that are pushed to each of the three when one configuration follows another. */
  function pushed(older: string, newer: string): (string[] | undefined)[] {
    const [before, after] = [older, newer].map(
      (yaml) => new PushContext({ version: "test/1", mesh: defaultMesh(), objects: objectsOf(base + yaml), domain: "cluster.local" }),
    );
    const request = planPush(new Set(["EnvoyFilter"]), before!, after!);
    return [gateway, a, b].map((proxy) => {
      const scope = request && scopeFor(request, proxy, before!, after!);
      return scope && [...(scope.typeUrls ?? ["all"])].sort();
    });
  }

  it("goes to whom a new patch is for, with the types that it alters", () => {
    expect(pushed("", filter("x", cluster))).toEqual([[cds], [cds], [cds]]);
    expect(pushed("", filter("x", http("GATEWAY")))).toEqual([[lds], undefined, undefined]);
    expect(pushed("", filter("x", http("SIDECAR_INBOUND"), forApp, "default"))).toEqual([undefined, [lds], undefined]);
    const extension = "{applyTo: EXTENSION_CONFIG, patch: {operation: ADD, value: {name: x}}}";
    expect(pushed("", filter("x", extension, forApp, "default"))).toEqual([undefined, [ecds], undefined]);
  });

  it("brings a sidecar the listeners in which its inbound routes are, a gateway only routes", () => {
    expect(pushed("", filter("x", route))).toEqual([[rds], [lds, rds].sort(), [lds, rds].sort()]);
  });

  it("brings back what was patched when a filter goes or changes", () => {
    expect(pushed(filter("x", cluster), "")).toEqual([[cds], [cds], [cds]]);
    expect(pushed(filter("x", cluster), filter("x", cluster.replace("3s", "4s")))).toEqual([[cds], [cds], [cds]]);
    expect(pushed(filter("x", `${http("ANY")},${cluster}`), filter("x", cluster))).toEqual([[lds], [lds], [lds]]);
  });

  it("does not happen where nothing changes but the place in a file, or one for nobody comes", () => {
    expect(pushed(filter("x", cluster), filter("x", cluster))).toEqual([undefined, undefined, undefined]);
    expect(pushed("", filter("x", cluster, "workloadSelector: {labels: {app: nobody}}, "))).toEqual([undefined, undefined, undefined]);
    expect(pushed("", filter("x", "{applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {}}}"))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it("happens when only the order changes, as far as it is one of the same kind", () => {
    const first = cluster.replace("3s", "1s");
    const [low, high] = [filter("x", cluster, "priority: 1, "), filter("x", cluster, "priority: -1, ")];
    expect(pushed(filter("y", first) + low, filter("y", first) + high)).toEqual([[cds], [cds], [cds]]);
    expect(pushed(filter("y", http("ANY")) + low, filter("y", http("ANY")) + high)).toEqual([undefined, undefined, undefined]);
  });
});
