/** samples/multicluster/gen-eastwest-gateway.sh: what it makes is configuration, and what it is given is checked. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { decodeObject } from "../../src/api/documents/decode-object.ts";
import type { ObjectOf } from "../../src/api/kinds/index.ts";
import { machineConfig } from "../../src/api/machine/machine-files.ts";

const script = join(import.meta.dirname, "..", "..", "samples", "multicluster", "gen-eastwest-gateway.sh");

const generate = (...args: string[]) => spawnSync(script, args, { encoding: "utf8" });

function objectsOf(...args: string[]) {
  const { status, stdout, stderr } = generate(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return parseAllDocuments(stdout).map((document) => {
    const { object, errors } = decodeObject(document.toJS() as Record<string, unknown>);
    expect(errors).toEqual([]);
    return object!;
  });
}

describe("gen-eastwest-gateway.sh", () => {
  it("makes the gateway of a network: account, Service with the network's label, WorkloadGroup with its view", () => {
    const [account, service, found] = objectsOf("--network", "one", "--address", "192.0.2.7,2001:db8::7", "--bind", "10.0.0.7");
    expect(account).toMatchObject({ kind: "ServiceAccount", metadata: { name: "istio-eastwestgateway-service-account" } });
    const labels = { app: "istio-eastwestgateway", istio: "eastwestgateway", "topology.istio.io/network": "one" };
    expect(service).toMatchObject({
      kind: "Service",
      metadata: { name: "istio-eastwestgateway", namespace: "istio-system", labels },
      spec: { selector: labels, externalIPs: ["192.0.2.7", "2001:db8::7"] },
    });
    expect(found?.kind).toBe("WorkloadGroup");
    const group = found as ObjectOf<"WorkloadGroup">;
    expect(group.spec.template).toMatchObject({ serviceAccount: "istio-eastwestgateway-service-account", network: "one" });
    const options = {
      group,
      meshYaml: "",
      istioNamespace: "istio-system",
      revision: "",
      clusterId: "c",
      registers: false,
      capturesDns: false,
    };
    expect(machineConfig(options).proxyMetadata).toMatchObject({
      ISTIO_META_NETWORK: "one",
      ISTIO_META_REQUESTED_NETWORK_VIEW: "one",
      TOPSAIL_BIND_ADDRESS: "10.0.0.7",
    });
  });

  it("makes one of no network, and takes the flags that do nothing in Istio either", () => {
    const objects = objectsOf("--single-cluster", "--mesh", "m", "--cluster", "c", "--address", "192.0.2.7", "--name", "door");
    expect(objects.map(({ metadata }) => metadata.name)).toEqual(["door-service-account", "door", "door"]);
    expect(JSON.stringify(objects)).not.toMatch(/topology|NETWORK_VIEW/);
  });

  it.each([
    [[], "give --network NETWORK, or --single-cluster"],
    [["--single-cluster"], "give --address IP"],
    [["--single-cluster", "--network", "a", "--address", "192.0.2.7"], "exclude each other"],
    [["--network", 'a"}', "--address", "192.0.2.7"], '--network "a"}": is no value of a label'],
    [["--network", "a\nb", "--address", "192.0.2.7"], "is no value of a label"],
    [["--network", "a", "--address", "host"], '--address "host": is no list of IP addresses'],
    [["--network", "a", "--address", "192.0.2.7", "--bind", "*"], '--bind "*": is no IP address'],
    [["--network", "a", "--address", "192.0.2.7", "--name", "A"], '--name "A": is no name'],
    [["--network"], "--network: needs a value"],
    [["--ambient"], "there is no ambient mode here"],
    [["--revision", "next"], "--revision: no such flag"],
  ])("refuses %j, and writes nothing", (args, message) => {
    const { status, stdout, stderr } = generate(...args);
    expect(stderr).toMatch(/^error: /);
    expect(stderr).toContain(message);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  });
});
