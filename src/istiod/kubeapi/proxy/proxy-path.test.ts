import { describe, expect, it } from "vitest";
import { parseProxyPath } from "./proxy-path.ts";

describe("parseProxyPath", () => {
  it.each([
    ["/api/v1/namespaces/default/pods/web:15000/proxy/config_dump", ["pods", "default", "web", "15000", "/config_dump"]],
    ["/api/v1/namespaces/default/pods/web/proxy", ["pods", "default", "web", "", "/"]],
    ["/api/v1/namespaces/default/pods/http:web%3A15000/proxy/a/b", ["pods", "default", "web", "15000", "/a/b"]],
    ["/api/v1/namespaces/s/services/istiod:http-monitoring/proxy/", ["services", "s", "istiod", "http-monitoring", "/"]],
  ])("reads %s", (path, parts) => {
    const { resource, namespace, name, port, path: rest } = parseProxyPath(path)!;
    expect([resource, namespace, name, port, rest]).toEqual(parts);
  });

  it.each([
    "/api/v1/namespaces/default/pods/web",
    "/api/v1/namespaces/default/pods/web/proxyx",
    "/api/v1/pods/web/proxy/",
    "/apis/apps/v1/namespaces/default/deployments/web/proxy/",
  ])("leaves %s to others", (path) => expect(parseProxyPath(path)).toBeUndefined());

  it.each([
    ["/api/v1/namespaces/default/pods/:15000/proxy/", "invalid target"],
    ["/api/v1/namespaces/default/pods/a:b:c:d/proxy/", "invalid target"],
    ["/api/v1/namespaces/default/pods/https:web:443/proxy/", "over http alone"],
    ["/api/v1/namespaces/%zz/pods/web/proxy/", "can't be decoded"],
  ])("refuses %s", (path, message) => expect(() => parseProxyPath(path)).toThrow(message));
});
