import { describe, expect, it } from "vitest";
import { expandBootstrap } from "../../../test/support/bootstrap-text.ts";
import { envoyBinary, envoyValidates } from "../../../test/support/envoy.ts";
import { startProxyServer } from "../../../test/support/proxy-server.ts";
import { loadBootstrap } from "./bootstrap.ts";
import { validateBootstrap } from "./validate-bootstrap.ts";

const match = { prefix: "/" };
const cases: [string, unknown, string | undefined][] = [
  ["an unknown cluster", { cluster: "nobody" }, "route: unknown cluster 'nobody'"],
  [
    "an unknown weighted cluster",
    {
      weighted_clusters: {
        clusters: [
          { name: "up", weight: 1 },
          { name: "nobody", weight: 1 },
        ],
      },
    },
    "route: unknown weighted cluster 'nobody'",
  ],
  [
    "an unknown shadow cluster",
    { cluster: "up", request_mirror_policies: [{ cluster: "nobody" }] },
    "route: unknown shadow cluster 'nobody'",
  ],
  ["a cluster that a header names", { cluster_header: "x-cluster" }, undefined],
  ["a known cluster", { cluster: "up" }, undefined],
];

function verdict(bootstrap: unknown): string | undefined {
  try {
    validateBootstrap(loadBootstrap({ yaml: JSON.stringify(bootstrap) }).bootstrap, "", "");
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

describe("inline routes", () => {
  it.each(cases)("with %s are judged as Envoy does", (_name, route, reason) => {
    const bootstrap = expandBootstrap({ routes: [{ match, route }] });
    expect(verdict(bootstrap)).toBe(reason);
    if (envoyBinary) expect(envoyValidates(JSON.stringify(bootstrap))).toBe(reason);
  });

  it("may name any cluster with validate_clusters: false", () => {
    const virtual_hosts = [{ name: "all", domains: ["*"], routes: [{ match, route: { cluster: "nobody" } }] }];
    const bootstrap = expandBootstrap({ hcm: { route_config: { validate_clusters: false, virtual_hosts } } });
    expect(verdict(bootstrap)).toBeUndefined();
    if (envoyBinary) expect(envoyValidates(JSON.stringify(bootstrap))).toBeUndefined();
  });

  it("with an unknown cluster end the start", async () => {
    const bootstrap = expandBootstrap({ routes: [{ match, route: { cluster: "nobody" } }] });
    await expect(startProxyServer(bootstrap)).rejects.toThrow("route: unknown cluster 'nobody'");
  });
});
