import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { type NameTable, NameTableSchema } from "../api/gen/istio/networking/nds/v1/nds_pb.js";
import { typeUrls } from "../api/type-urls.ts";
import { OwnResources } from "./own-resources.ts";

describe.each([
  { protocol: "delta", isDelta: true },
  { protocol: "state of the world", isDelta: false },
])("OwnResources over $protocol", ({ isDelta }) => {
  const start = (options: { withoutNames?: boolean } = {}) => {
    const requests: { typeUrl: string; responseNonce: string; errorDetail?: { message: string } | undefined }[] = [];
    const tables: NameTable[] = [];
    const own = new OwnResources({
      isDelta,
      send: (bytes) =>
        void requests.push(isDelta ? fromBinary(DeltaDiscoveryRequestSchema, bytes) : fromBinary(DiscoveryRequestSchema, bytes)),
      onTrust: () => {},
      ...(options.withoutNames ? {} : { onNameTable: (table: NameTable) => void tables.push(table) }),
    });
    return { own, requests, tables };
  };
  const response = (typeUrl: string, value: Uint8Array | undefined) => {
    const resource = value && create(AnySchema, { typeUrl, value });
    const bytes = isDelta
      ? toBinary(
          DeltaDiscoveryResponseSchema,
          create(DeltaDiscoveryResponseSchema, { typeUrl, nonce: "n1", resources: resource ? [{ name: "names", resource }] : [] }),
        )
      : toBinary(
          DiscoveryResponseSchema,
          create(DiscoveryResponseSchema, { typeUrl, nonce: "n1", versionInfo: "v1", resources: resource ? [resource] : [] }),
        );
    return Buffer.from(bytes);
  };
  const names = toBinary(NameTableSchema, create(NameTableSchema, { table: { "a.test": { ips: ["10.0.0.1"], registry: "External" } } }));

  it("asks for names where there is somebody to answer with them", () => {
    const { own, requests } = start();
    own.subscribe();
    expect(requests.map(({ typeUrl }) => typeUrl)).toEqual([typeUrls.nds, typeUrls.pcds]);
    const without = start({ withoutNames: true });
    without.own.subscribe();
    expect(without.requests.map(({ typeUrl }) => typeUrl)).toEqual([typeUrls.pcds]);
    expect(without.own.take(response(typeUrls.nds, names))).toBe(false);
  });

  it("takes the table out of the stream and acknowledges it", () => {
    const { own, requests, tables } = start();
    expect(own.take(response(typeUrls.nds, names))).toBe(true);
    expect(tables.map(({ table }) => Object.keys(table))).toEqual([["a.test"]]);
    expect(requests).toMatchObject([{ typeUrl: typeUrls.nds, responseNonce: "n1" }]);
    expect(requests[0]?.errorDetail).toBeUndefined();
  });

  it("refuses what is no table, and keeps what it has", () => {
    const { own, requests, tables } = start();
    expect(own.take(response(typeUrls.nds, Buffer.from("ffff", "hex")))).toBe(true);
    expect(tables).toEqual([]);
    expect(requests[0]).toMatchObject({ typeUrl: typeUrls.nds, responseNonce: "n1", errorDetail: { code: 13 } });
  });

  it("leaves the proxy's own to it", () => {
    expect(start().own.take(response(typeUrls.cds, names))).toBe(false);
  });
});
