import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { encodedName } from "./encoded-name.ts";

describe("encodedName", () => {
  it("reads the name of what begins with one, however long", () => {
    for (const name of ["a", "ä".repeat(100), "x".repeat(20_000)]) {
      expect(encodedName(toBinary(ClusterSchema, create(ClusterSchema, { name, altStatName: "other" })))).toBe(name);
    }
  });

  it("finds none where something else comes first, or the bytes end too early", () => {
    expect(encodedName(toBinary(ClusterSchema, create(ClusterSchema, { altStatName: "other" })))).toBeUndefined();
    for (const bytes of [[], [0x0a], [0x0a, 0x05, 0x61], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff]]) {
      expect(encodedName(new Uint8Array(bytes))).toBeUndefined();
    }
  });
});
