import { describe, expect, it } from "vitest";
import { gatewayMember, joinPlan, sidecar } from "./join-plan.ts";

const files = {
  "root-cert.pem": "ROOT",
  "istio-token": "TOKEN",
  "cluster.env": "A='1'\nISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020'\n",
  "mesh.yaml": "defaultConfig: {}\n",
};
const facts = { files, controlPlaneIp: "192.0.2.1", hosts: "127.0.0.1 localhost\n", sshPort: "22" };
const content = (path: string, over: Partial<typeof facts> = {}) =>
  joinPlan({ ...facts, ...over }, sidecar).find((file) => file.path === path)!.content;

describe("joinPlan", () => {
  it("puts files where the agent looks for them, the token for the agent's eyes alone", () => {
    expect(joinPlan(facts, sidecar).map(({ path, mode, isAgents }) => [path, mode.toString(8), isAgents])).toEqual([
      ["/etc/certs/root-cert.pem", "644", true],
      ["/var/run/secrets/tokens/istio-token", "600", true],
      ["/var/lib/istio/envoy/cluster.env", "644", true],
      ["/etc/istio/config/mesh", "644", true],
      ["/etc/hosts", "644", false],
    ]);
  });

  it("puts those of a gateway where its unit looks for them", () => {
    const paths = joinPlan(facts, gatewayMember("eastwest")).map(({ path }) => path);
    expect(paths).toEqual([
      "/var/lib/istio-gateway/eastwest/etc/certs/root-cert.pem",
      "/var/lib/istio-gateway/eastwest/var/run/secrets/tokens/istio-token",
      "/var/lib/istio-gateway/eastwest/var/lib/istio/envoy/cluster.env",
      "/var/lib/istio-gateway/eastwest/etc/istio/config/mesh",
      "/etc/hosts",
    ]);
    expect(gatewayMember("eastwest").unit).toBe("istio-gateway@eastwest.service");
    for (const name of ["", "../x", "A", "a b", "-a"]) expect(() => gatewayMember(name)).toThrow(RangeError);
  });

  it("adds one line to /etc/hosts, and replaces what it added before", () => {
    const once = content("/etc/hosts");
    expect(once).toBe("127.0.0.1 localhost\n192.0.2.1 istiod.istio-system.svc\n");
    expect(content("/etc/hosts", { hosts: once, controlPlaneIp: "192.0.2.9" })).toBe(
      "127.0.0.1 localhost\n192.0.2.9 istiod.istio-system.svc\n",
    );
    const commented = "# 10.0.0.1 istiod.istio-system.svc\n10.0.0.1 other istiod.istio-system.svc # old\n";
    expect(content("/etc/hosts", { hosts: commented })).toBe("# 10.0.0.1 istiod.istio-system.svc\n192.0.2.1 istiod.istio-system.svc\n");
  });

  it("keeps the port of the session open that is being used", () => {
    expect(content("/var/lib/istio/envoy/cluster.env")).toBe(files["cluster.env"]);
    expect(content("/var/lib/istio/envoy/cluster.env", { sshPort: "2222" })).toBe(
      "A='1'\nISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,2222'\n",
    );
  });

  it("refuses what is not whole", () => {
    const { "istio-token": _, ...rest } = files;
    expect(() => joinPlan({ ...facts, files: rest }, sidecar)).toThrow("the control plane handed out no istio-token");
    expect(() => joinPlan({ ...facts, controlPlaneIp: "host" }, sidecar)).toThrow("host is no IP address");
  });
});
