import { describe, expect, it } from "vitest";
import { parseObjectPath } from "./request-path.ts";

describe("parseObjectPath", () => {
  it.each<[string, string]>([
    ["/api/v1/pods", "v1 pods"],
    ["/api/v1/namespaces/default/pods", "v1 pods default"],
    ["/api/v1/namespaces/default/pods/a.b", "v1 pods default a.b"],
    ["/api/v1/namespaces/default/pods/a/status", "v1 pods default a status"],
    ["/api/v1/namespaces", "v1 namespaces"],
    ["/api/v1/namespaces/default", "v1 namespaces  default"],
    ["/api/v1/namespaces/default/status", "v1 namespaces  default status"],
    ["/apis/apps/v1/namespaces/default/deployments/d/scale", "apps/v1 deployments default d scale"],
    ["/apis/networking.istio.io/v1alpha3/gateways", "networking.istio.io/v1alpha3 gateways"],
  ])("%s is %s", (path, text) => {
    const found = parseObjectPath(path)!;
    const { resource, namespace, name, subresource } = found;
    expect([resource.apiVersion, resource.kind.plural, namespace, name, subresource].join(" ").trimEnd()).toBe(text);
  });

  it.each([
    "/",
    "/api",
    "/api/v1",
    "/apis/apps/v1",
    "/api/v2/pods",
    "/api/v1/podz",
    "/apis/apps/v1/pods",
    "/apis/networking.istio.io/v1/envoyfilters",
    "/api/v1/pods/a",
    "/api/v1/namespaces/default/namespaces",
    "/api/v1/namespaces/default/pods/a/log/more",
    "/api/v1/namespaces/default/pods/",
    "/api/v1/namespaces//pods",
    "/api/v1/namespaces/../../etc/passwd",
    "/api/v1/namespaces/default/configmaps/..",
    "/api/v1/namespaces/default/configmaps/..%2f..%2fetc",
    "/api/v1/namespaces/default/configmaps/%2e%2e",
    "/api/v1/namespaces/default/configmaps/a%00b",
    "/api/v1/namespaces/default/configmaps/%zz",
    "/api/constructor/prototype",
  ])("%s is none", (path) => {
    expect(parseObjectPath(path)).toBeUndefined();
  });
});
