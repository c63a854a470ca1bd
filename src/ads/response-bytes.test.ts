import { create, fromBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ClusterSchema } from "../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { DeltaDiscoveryResponseSchema, DiscoveryResponseSchema } from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { encodeResource } from "./resource.ts";
import { type Answer, deltaResponse, sotwResponse } from "./response-bytes.ts";

/** Sizes around which a length takes one more byte. */
const sizes = [1, 100, 127, 128, 16_383, 16_384, 300_000];
const resources = [
  ...sizes.map((size) => encodeResource(`c-${size}`, ClusterSchema, create(ClusterSchema, { name: "x".repeat(size) }))),
  encodeResource("empty", ClusterSchema, create(ClusterSchema)),
  encodeResource("späße", ClusterSchema, create(ClusterSchema, { name: "späße" })),
];
const answer: Answer = { typeUrl: typeUrls.cds, version: "2026-11-24T15:04:05Z/12", nonce: "n", resources, removed: ["gone", "grün"] };
const any = ({ typeUrl, bytes }: (typeof resources)[number]) => ({ typeUrl, value: base64(bytes) });
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

describe("responses", () => {
  it("are what a decoder reads, delta", () => {
    const read = fromBinary(DeltaDiscoveryResponseSchema, deltaResponse(answer));
    expect(read.$unknown).toBeUndefined();
    expect(read).toMatchObject({
      typeUrl: typeUrls.cds,
      systemVersionInfo: answer.version,
      nonce: "n",
      removedResources: ["gone", "grün"],
    });
    expect(read.resources.map(({ name, version }) => [name, version])).toEqual(resources.map(({ name, version }) => [name, version]));
    expect(read.resources.map(({ resource }) => ({ typeUrl: resource?.typeUrl, value: base64(resource!.value) }))).toEqual(
      resources.map(any),
    );
  });

  it("are what a decoder reads, state of the world", () => {
    const read = fromBinary(DiscoveryResponseSchema, sotwResponse(answer));
    expect(read.$unknown).toBeUndefined();
    expect(read).toMatchObject({ typeUrl: typeUrls.cds, versionInfo: answer.version, nonce: "n" });
    expect(read.resources.map(({ typeUrl, value }) => ({ typeUrl, value: base64(value) }))).toEqual(resources.map(any));
  });

  it("may be empty", () => {
    const empty = { typeUrl: "", version: "", nonce: "", resources: [], removed: [] };
    expect([deltaResponse(empty).length, sotwResponse(empty).length]).toEqual([0, 0]);
  });
});
