import { describe, expect, it } from "vitest";
import { proxyFor, readProxyEnvironment } from "./proxy-environment.ts";

describe("proxyFor", () => {
  // What golang.org/x/net/http/httpproxy v0.62.0 says, which made this table.
  it.each([
    ["http://a.test/", "", "http://p.test:1"],
    ["https://a.test/", "", "https://q.test"],
    ["http://localhost:8080/", "", "direct"],
    ["https://127.9.9.9/", "", "direct"],
    ["http://[::1]/", "", "direct"],
    ["http://a.test/", "*", "direct"],
    ["http://a.test/", "b.test, a.test", "direct"],
    ["http://x.a.test/", "a.test", "direct"],
    ["http://xa.test/", "a.test", "http://p.test:1"],
    ["http://a.test/", ".a.test", "http://p.test:1"],
    ["http://x.a.test/", ".a.test", "direct"],
    ["http://a.test/", "*.a.test", "http://p.test:1"],
    ["http://x.a.test/", "*.a.test", "direct"],
    ["http://a.test/", "a.test:80", "direct"],
    ["https://a.test/", "a.test:80", "https://q.test"],
    ["https://a.test/", "a.test:443", "direct"],
    ["http://A.TEST/", "a.test", "direct"],
    ["http://a.test/", "A.TEST", "direct"],
    ["http://10.1.2.3/", "10.0.0.0/8", "direct"],
    ["http://11.1.2.3/", "10.0.0.0/8", "http://p.test:1"],
    ["http://10.1.2.3/", "10.1.2.3", "direct"],
    ["http://10.1.2.3:81/", "10.1.2.3:80", "http://p.test:1"],
    ["http://10.1.2.3/", "10.1.2.3:80", "direct"],
    ["http://[fd00::1]/", "fd00::/8", "direct"],
    ["http://[fd00::1]/", "fd00::1", "direct"],
    ["http://[fd00::1]:81/", "[fd00::1]:80", "http://p.test:1"],
    ["http://[fd00::1]/", "[fd00::1]:80", "direct"],
    ["http://a.test./", "a.test", "http://p.test:1"],
    ["http://a.test/", ",", "http://p.test:1"],
    ["http://a.test/", "10.0.0.0/99", "http://p.test:1"],
    ["http://10.1.2.3/", "2.3", "http://p.test:1"],
    ["http://[::ffff:10.1.2.3]/", "10.0.0.0/8", "direct"],
    ["http://[fd00::1]/", "[fd00::1]", "http://p.test:1"],
    ["http://[::ffff:127.0.0.1]/", "", "direct"],
  ])("%s with NO_PROXY '%s' goes %s", (url, noProxy, expected) => {
    const proxy = proxyFor(new URL(url), { httpProxy: "p.test:1", httpsProxy: "https://q.test", noProxy });
    expect(proxy?.href.replace(/\/$/, "") ?? "direct").toBe(expected);
  });

  it.each(["ftp://p.test", "http://", "socks4://p.test:1", "http://user:secret@ x"])(
    "refuses the proxy %s without saying it",
    (httpProxy) => {
      const refusal = () => proxyFor(new URL("http://a.test"), { httpProxy, httpsProxy: "", noProxy: "" });
      expect(refusal).toThrow("HTTP_PROXY: is no URL of an http, https or socks5 proxy");
      expect(refusal).not.toThrow("secret");
    },
  );
});

describe("readProxyEnvironment", () => {
  it("prefers names in capitals, and believes no client of a CGI program", () => {
    expect(readProxyEnvironment({ HTTP_PROXY: "a", http_proxy: "b", https_proxy: "c", no_proxy: "d" })).toEqual({
      httpProxy: "a",
      httpsProxy: "c",
      noProxy: "d",
    });
    expect(readProxyEnvironment({ HTTP_PROXY: "a", REQUEST_METHOD: "GET" })).toEqual({ httpProxy: "", httpsProxy: "", noProxy: "" });
  });
});
