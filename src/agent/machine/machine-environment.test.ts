import { describe, expect, it } from "vitest";
import { gatewayDefaults } from "./gateway-defaults.ts";
import { MachineError, machineEnvironment } from "./machine-environment.ts";

const machine = { hostName: "vm1.example.com", addresses: ["10.1.2.3", "10.9.9.9"] };

describe("machineEnvironment", () => {
  it("fills in what Istio's script does", () => {
    expect(machineEnvironment({}, machine)).toEqual({
      variables: {
        POD_NAME: "vm1",
        POD_NAMESPACE: "default",
        ISTIO_SYSTEM_NAMESPACE: "istio-system",
        CA_ADDR: "istiod.istio-system.svc:15012",
        PROV_CERT: "./etc/certs",
        OUTPUT_CERTS: "./etc/certs",
        PROXY_CONFIG: "serviceCluster: rawvm\ncontrolPlaneAuthPolicy: MUTUAL_TLS",
        ISTIO_LOCAL_EXCLUDE_PORTS: "22,15020,15021,15090",
      },
      agentFlags: [],
      warnings: [],
    });
  });

  it("takes what the files say", () => {
    const { variables, agentFlags } = machineEnvironment(
      {
        ISTIO_NAMESPACE: "shop",
        ISTIO_SERVICE: "ratings.shop",
        ISTIO_SVC_IP: "192.0.2.7",
        POD_NAME: "web",
        PROV_CERT: "",
        OUTPUT_CERTS: "/srv/certs",
        ISTIO_AGENT_FLAGS: "--proxyLogLevel debug  --concurrency 2",
        ISTIO_LOCAL_EXCLUDE_PORTS: "8080, 22",
        ISTIO_INBOUND_EXCLUDE_PORTS: "9000",
        ISTIO_META_NETWORK: "",
      },
      machine,
    );
    expect(variables).toMatchObject({
      INSTANCE_IP: "192.0.2.7",
      POD_NAME: "web",
      POD_NAMESPACE: "shop",
      PROV_CERT: "",
      OUTPUT_CERTS: "/srv/certs",
      PROXY_CONFIG: "serviceCluster: ratings.shop\ncontrolPlaneAuthPolicy: MUTUAL_TLS",
      ISTIO_LOCAL_EXCLUDE_PORTS: "8080,22,9000,15020,15021,15090",
      ISTIO_META_NETWORK: "",
    });
    expect(agentFlags).toEqual(["--proxyLogLevel", "debug", "--concurrency", "2"]);
  });

  it.each([
    [{ CA_ADDR: "ca:1", PILOT_ADDRESS: "pilot:2", ISTIO_PILOT_PORT: "3" }, "ca:1", "pilot:2"],
    [{ PILOT_ADDRESS: "pilot:2", ISTIO_PILOT_PORT: "3" }, "pilot:2", "pilot:2"],
    [{ ISTIO_PILOT_PORT: "3", ISTIO_SYSTEM_NAMESPACE: "mesh" }, "istiod.mesh.svc:3", "istiod.mesh.svc:3"],
    [{ ISTIO_SYSTEM_NAMESPACE: "mesh" }, "istiod.mesh.svc:15012", undefined],
  ])("finds authority and control plane of %j", (given, authority, controlPlane) => {
    const { variables } = machineEnvironment({ ...given, ISTIO_SERVICE: "web" }, machine);
    expect(variables.CA_ADDR).toBe(authority);
    expect(/discoveryAddress: (.*)/.exec(variables.PROXY_CONFIG!)?.[1]).toBe(controlPlane);
    expect(variables.PROXY_CONFIG).toContain("serviceCluster: web");
  });

  it("leaves a ProxyConfig of the user's own as it is, but for the control plane's address", () => {
    expect(machineEnvironment({ PROXY_CONFIG: "concurrency: 2" }, machine).variables.PROXY_CONFIG).toBe("concurrency: 2");
    const named = machineEnvironment({ PROXY_CONFIG: "concurrency: 2", PILOT_ADDRESS: "pilot:2" }, machine);
    expect(JSON.parse(named.variables.PROXY_CONFIG!)).toEqual({ concurrency: 2, discoveryAddress: "pilot:2" });
    const inBraces = machineEnvironment({ PROXY_CONFIG: "{concurrency: 2}", PILOT_ADDRESS: "pilot:2" }, machine);
    expect(inBraces.variables.PROXY_CONFIG).toBe(named.variables.PROXY_CONFIG);
    expect(machineEnvironment({ PROXY_CONFIG: "{concurrency", PILOT_ADDRESS: "pilot:2" }, machine).variables.PROXY_CONFIG).toBe(
      "{concurrency",
    );
  });

  it("lays it over what holds for the machine", () => {
    const ports = { proxyAdminPort: 15200, statusPort: 15220 };
    const { variables } = machineEnvironment({ PROXY_CONFIG: "statusPort: 7" }, machine, ports);
    expect(JSON.parse(variables.PROXY_CONFIG!)).toEqual({ proxyAdminPort: 15200, statusPort: 7 });
    expect(machineEnvironment({}, machine, ports).variables.PROXY_CONFIG).toBe(
      "serviceCluster: rawvm\ncontrolPlaneAuthPolicy: MUTUAL_TLS\nproxyAdminPort: 15200\nstatusPort: 15220",
    );
  });

  it("says which settings do nothing here", () => {
    expect(machineEnvironment({ ISTIO_LOG_DIR: "/var/log/istio", EXEC_USER: "me" }, machine).warnings).toEqual([
      "ISTIO_LOG_DIR has no effect: logs are in the journal: journalctl -u istio",
      "EXEC_USER has no effect: the unit names the user: systemctl edit istio",
    ]);
  });

  it("leaves ssh and the agent's own ports alone, wherever they are and whatever is listed", () => {
    const moved = {
      ENVOY_STATUS_PORT: "15321",
      ENVOY_PROMETHEUS_PORT: "15390",
      PROXY_CONFIG: "{proxyAdminPort: 15300, statusPort: 15320}",
    };
    const { variables, warnings } = machineEnvironment({ ...moved, ISTIO_INBOUND_PORTS: "22, 9080,15320" }, machine);
    expect(variables.ISTIO_LOCAL_EXCLUDE_PORTS).toBe("22,15020,15021,15090,15320,15321,15390");
    expect(variables.ISTIO_INBOUND_PORTS).toBe("9080");
    expect(warnings).toEqual(["ISTIO_INBOUND_PORTS: 22, 15320 is not captured, whatever is listed"]);
    const none = machineEnvironment({ ENVOY_STATUS_PORT: "x", ENVOY_PROMETHEUS_PORT: "0", PROXY_CONFIG: "statusPort: 0" }, machine);
    expect(none.variables.ISTIO_LOCAL_EXCLUDE_PORTS).toBe("22,15020,15021,15090");
    for (const ports of ["*", "", "9080"])
      expect(machineEnvironment({ ISTIO_INBOUND_PORTS: ports }, machine).variables.ISTIO_INBOUND_PORTS).toBe(ports);
  });

  it("does not register a machine by its loopback address", () => {
    expect(() => machineEnvironment({}, { ...machine, addresses: [] })).toThrow(MachineError);
    expect(machineEnvironment({ ISTIO_SVC_IP: "10.0.0.1" }, { ...machine, addresses: [] }).variables.INSTANCE_IP).toBe("10.0.0.1");
    for (const address of ["10.0.0", "vm1.example.com", "10.0.0.1,10.0.0.2"])
      expect(() => machineEnvironment({ ISTIO_SVC_IP: address }, machine)).toThrow(`ISTIO_SVC_IP: "${address}" is no IP address`);
  });
});

describe("gatewayDefaults", () => {
  it.each([
    ["ingress", "istio-ingressgateway", "ingressgateway", "istio-ingressgateway-service-account"],
    ["eastwest", "istio-eastwestgateway", "eastwestgateway", "istio-eastwestgateway-service-account"],
    ["public", "public", "public", "public"],
  ])("makes of %s what Gateways select", (instance, app, istio, account) => {
    const { variables } = gatewayDefaults(instance, "edge1.example.com");
    expect(JSON.parse(variables.ISTIO_METAJSON_LABELS!)).toEqual({ app, istio });
    expect(variables).toMatchObject({ SERVICE_ACCOUNT: account, POD_NAME: `${app}-edge1`, ISTIO_NAMESPACE: "istio-system" });
  });

  it("gives those of Istio ports that do not meet, and leaves Istio's own to the ingress gateway", () => {
    const portsOf = (instance: string) => {
      const { variables, proxyConfig } = gatewayDefaults(instance, "edge1");
      return [variables.ENVOY_STATUS_PORT, variables.ENVOY_PROMETHEUS_PORT, ...Object.values(proxyConfig)].map(Number);
    };
    expect(gatewayDefaults("ingress", "edge1")).toMatchObject({ proxyConfig: {} });
    expect(gatewayDefaults("ingress", "edge1").variables).not.toHaveProperty("ENVOY_STATUS_PORT");
    expect(portsOf("egress")).toEqual([15121, 15190, 15100, 15120]);
    expect(portsOf("eastwest")).toEqual([15221, 15290, 15200, 15220]);
  });
});
