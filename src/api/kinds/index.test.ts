import { describe, expect, it } from "vitest";
import { kindOf, kinds } from "./index.ts";

describe("kinds", () => {
  it("have names of their own", () => {
    for (const names of [
      kinds.map((kind) => kind.kind),
      kinds.map((kind) => `${kind.group}/${kind.plural}`),
      kinds.flatMap((kind) => kind.shortNames),
    ]) {
      expect(new Set<string>(names).size).toBe(names.length);
    }
  });

  it("are found by group and name, whatever the version", () => {
    expect(kindOf("networking.istio.io/v1alpha3", "Gateway")?.plural).toBe("gateways");
    expect(kindOf("gateway.networking.k8s.io/v1", "Gateway")).toBeUndefined();
    expect(kindOf("v1", "Service")?.shortNames).toEqual(["svc"]);
    expect(kindOf("networking.istio.io/v1", "constructor")).toBeUndefined();
  });

  it("serve the versions of Istio's CRDs", () => {
    const served = Object.fromEntries(
      kinds.filter((kind) => kind.group.endsWith("istio.io")).map((kind) => [kind.kind, kind.versions.join()]),
    );
    expect(served).toEqual({
      AuthorizationPolicy: "v1,v1beta1",
      DestinationRule: "v1,v1beta1,v1alpha3",
      EnvoyFilter: "v1alpha3",
      Gateway: "v1,v1beta1,v1alpha3",
      PeerAuthentication: "v1,v1beta1",
      ProxyConfig: "v1beta1",
      RequestAuthentication: "v1,v1beta1",
      ServiceEntry: "v1,v1beta1,v1alpha3",
      Sidecar: "v1,v1beta1,v1alpha3",
      Telemetry: "v1,v1alpha1",
      VirtualService: "v1,v1beta1,v1alpha3",
      WasmPlugin: "v1alpha1",
      WorkloadEntry: "v1,v1beta1,v1alpha3",
      WorkloadGroup: "v1,v1beta1,v1alpha3",
    });
  });
});
