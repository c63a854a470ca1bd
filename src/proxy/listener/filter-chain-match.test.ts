import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { FilterChainMatchSchema } from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type ConnectionTraits, FilterChainMatcher } from "./filter-chain-match.ts";

const plain: ConnectionTraits = {
  destinationIp: "10.0.0.1",
  destinationPort: 80,
  serverName: "",
  transportProtocol: "raw_buffer",
  applicationProtocols: [],
  directSourceIp: "10.9.9.9",
  sourceIp: "10.9.9.9",
  sourcePort: 1234,
};

function find(chains: Record<string, JsonObject>, traits: Partial<ConnectionTraits>, fallback: string | null = null): string | null {
  const matcher = new FilterChainMatcher(
    Object.entries(chains).map(([name, match]) => [name, fromJson(FilterChainMatchSchema, match)] as const),
    fallback,
  );
  return matcher.find({ ...plain, ...traits });
}

describe("FilterChainMatcher", () => {
  it("matches names exactly, then by the longest suffix, then those without", () => {
    const chains = {
      exact: { serverNames: ["a.ex.com"] },
      suffix: { serverNames: ["*.ex.com"] },
      longer: { serverNames: ["*.b.ex.com"] },
      any: {},
    };
    expect(find(chains, { serverName: "a.ex.com" })).toBe("exact");
    expect(find(chains, { serverName: "x.ex.com" })).toBe("suffix");
    expect(find(chains, { serverName: "x.b.ex.com" })).toBe("longer");
    expect(find(chains, { serverName: "ex.com" })).toBe("any");
    expect(find(chains, {})).toBe("any");
  });

  it("lets the transport protocol decide before ALPN", () => {
    const chains = { tls: { transportProtocol: "tls" }, istio: { applicationProtocols: ["istio"] } };
    expect(find(chains, { transportProtocol: "tls", applicationProtocols: ["istio"] })).toBe("tls");
  });

  it("does not go back once a step has matched", () => {
    const chains = { raw: { transportProtocol: "raw_buffer", applicationProtocols: ["http/1.1"] }, any: {} };
    expect(find(chains, { applicationProtocols: ["h2c"] })).toBeNull();
    expect(find(chains, { applicationProtocols: ["h2c"] }, "fallback")).toBe("fallback");
    expect(find(chains, { transportProtocol: "tls" })).toBe("any");
  });

  it("takes the port before the address, and the longest prefix", () => {
    const chains = {
      port: { destinationPort: 80 },
      wide: { prefixRanges: [{ addressPrefix: "10.0.0.0", prefixLen: 8 }] },
      narrow: { prefixRanges: [{ addressPrefix: "10.0.0.0", prefixLen: 24 }] },
    };
    expect(find(chains, {})).toBe("port");
    expect(find(chains, { destinationPort: 81 })).toBe("narrow");
    expect(find(chains, { destinationPort: 81, destinationIp: "10.1.0.1" })).toBe("wide");
    expect(find(chains, { destinationPort: 81, destinationIp: "11.0.0.1" })).toBeNull();
  });

  it("tells local from external sources", () => {
    const chains = { local: { sourceType: "SAME_IP_OR_LOOPBACK" }, external: { sourceType: "EXTERNAL" } };
    expect(find(chains, { sourceIp: "127.0.0.1" })).toBe("local");
    expect(find(chains, {})).toBe("external");
  });

  it("refuses two chains with the same criteria", () => {
    expect(() => find({ a: { destinationPort: 1 }, b: { destinationPort: 1 } }, {})).toThrow("same matching rules");
  });
});
