import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { DeltaDiscoveryRequestSchema, DiscoveryRequestSchema } from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { parseLocality } from "../api/node.ts";
import { CurrentNode } from "./current-node.ts";

const id = "sidecar~10.0.0.5~vm.shop~shop.svc.cluster.local";
const made = () => new CurrentNode({ addresses: ["10.0.0.5"], id, cluster: "vm", locality: parseLocality(""), metadata: {} });
const request = (schema: typeof DeltaDiscoveryRequestSchema | typeof DiscoveryRequestSchema) =>
  Buffer.from(
    toBinary(schema, create(schema, { typeUrl: "t", node: { id, cluster: "vm", metadata: { INSTANCE_IPS: "10.0.0.5", NAME: "vm" } } })),
  );

describe("CurrentNode", () => {
  it("leaves requests as they are while the machine has its address", () => {
    const bytes = request(DeltaDiscoveryRequestSchema);
    expect(made().correct(bytes, true)).toBe(bytes);
  });

  it.each([
    ["delta", DeltaDiscoveryRequestSchema],
    ["state of the world", DiscoveryRequestSchema],
  ] as const)("puts the address right in %s, and says those of before until it is heard", (_, schema) => {
    const node = made();
    node.moveTo(["10.0.0.6"]);
    node.moveTo(["10.0.0.7", "fd00::7"]);
    const read = () => fromBinary(schema, node.correct(request(schema), schema === DeltaDiscoveryRequestSchema));
    expect(read()).toMatchObject({
      typeUrl: "t",
      node: {
        id: "sidecar~10.0.0.7~vm.shop~shop.svc.cluster.local",
        cluster: "vm",
        metadata: { INSTANCE_IPS: "10.0.0.7,fd00::7", NAME: "vm", TOPSAIL_FORMER_ADDRESSES: "10.0.0.5,10.0.0.6" },
      },
    });
    node.forgetFormer();
    expect(read().node?.metadata).toEqual({ INSTANCE_IPS: "10.0.0.7,fd00::7", NAME: "vm" });
  });

  it("leaves what is no request to the control plane", () => {
    const node = made();
    node.moveTo(["10.0.0.6"]);
    const bytes = Buffer.from([0xff, 0xff]);
    expect(node.correct(bytes, true)).toBe(bytes);
  });
});
