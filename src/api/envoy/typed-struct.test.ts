import { create, type JsonObject } from "@bufbuild/protobuf";
import { anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { ClusterSchema } from "../gen/envoy/config/cluster/v3/cluster_pb.js";
import { RouteSchema } from "../gen/envoy/config/route/v3/route_components_pb.js";
import { LocalRateLimitSchema } from "../gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { SecretSchema } from "../gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { TypedStructSchema as UdpaTypedStructSchema } from "../gen/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "../gen/xds/type/v3/typed_struct_pb.js";
import { checkConstraints } from "./constraints.ts";
import { redactJson } from "./redact.ts";
import { envoyTypes } from "./type-registry.ts";
import { resolveTypedStruct } from "./typed-struct.ts";
import { writeJson } from "./write-json.ts";

const typeUrl = `type.googleapis.com/${LocalRateLimitSchema.typeName}`;

describe("a TypedStruct", () => {
  it.each([
    ["xds", TypedStructSchema],
    ["udpa", UdpaTypedStructSchema],
  ] as const)("of %s is taken for the message that it stands for", (_, schema) => {
    const any = anyPack(schema, create(schema, { typeUrl, value: { stat_prefix: "a", alwaysConsumeDefaultTokenBucket: false, newer: 1 } }));
    const content = anyUnpack(resolveTypedStruct(any), LocalRateLimitSchema);
    expect(content).toMatchObject({ statPrefix: "a", alwaysConsumeDefaultTokenBucket: false });
    expect(resolveTypedStruct(any)).toBe(resolveTypedStruct(any));
  });

  it("of an unknown type keeps the type's name", () => {
    const any = anyPack(TypedStructSchema, create(TypedStructSchema, { typeUrl: "example.com/example.Filter", value: { a: 1 } }));
    expect(resolveTypedStruct(any)).toMatchObject({ typeUrl: "example.com/example.Filter", value: new Uint8Array() });
  });

  it("says what in it is wrong", () => {
    const value = { token_bucket: { max_tokens: "many" } };
    const any = anyPack(TypedStructSchema, create(TypedStructSchema, { typeUrl, value }));
    expect(() => resolveTypedStruct(any)).toThrow(expect.objectContaining({ field: "token_bucket.max_tokens" }));
  });

  it("keeps the constraints of its message", () => {
    const any = anyPack(TypedStructSchema, create(TypedStructSchema, { typeUrl, value: { stage: 11, stat_prefix: "a" } }));
    const route = create(RouteSchema, {
      match: { pathSpecifier: { case: "prefix", value: "/" } },
      action: { case: "directResponse", value: { status: 200 } },
      typedPerFilterConfig: { a: any },
    });
    expect(checkConstraints(RouteSchema, route, envoyTypes)?.message).toContain("Stage: value must be less than or equal to 10");
  });

  it("shows no secrets in dumps", () => {
    const secret = { name: "s", tlsCertificate: { private_key: { inline_string: "KEY" } } };
    const any = anyPack(
      UdpaTypedStructSchema,
      create(UdpaTypedStructSchema, { typeUrl: `t/${SecretSchema.typeName}`, value: secret as JsonObject }),
    );
    const cluster = create(ClusterSchema, { name: "c", typedExtensionProtocolOptions: { x: any } });
    const text = JSON.stringify(redactJson(ClusterSchema, writeJson(ClusterSchema, cluster), envoyTypes));
    expect(text).not.toContain("KEY");
    expect(text).toContain('{"private_key":{"inline_string":"[redacted]"}}');
  });
});
