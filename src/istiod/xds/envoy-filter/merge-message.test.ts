import { create, fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { type Any, type AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { envoyTypes } from "../../../api/envoy/type-registry.ts";
import { ClusterSchema } from "../../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ListenerSchema } from "../../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteSchema } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { CorsSchema } from "../../../api/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { RouterSchema } from "../../../api/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { TypedStructSchema } from "../../../api/gen/udpa/type/v1/typed_struct_pb.js";
import { mergeAny, mergeMessage } from "./merge-message.ts";

type Schema = typeof ClusterSchema | typeof ListenerSchema | typeof RouteSchema;
const read = (schema: Schema, json: JsonValue) => fromJson(schema, json, { registry: envoyTypes }) as Message;

function merged(schema: Schema, target: JsonValue, patch: JsonValue, replacesLists = false): JsonValue {
  const [into, from] = [read(schema, target), read(schema, patch)];
  mergeMessage(schema, into, from, { replacesLists });
  expect(from, "the patch is as it was").toEqual(read(schema, patch));
  return toJson(schema, into as never, { registry: envoyTypes, useProtoFieldName: true });
}

describe("mergeMessage", () => {
  it("replaces what is set and leaves the rest", () => {
    expect(merged(ClusterSchema, { name: "a", lb_policy: "RANDOM" }, { lb_policy: "MAGLEV" })).toEqual({ name: "a", lb_policy: "MAGLEV" });
    expect(merged(ClusterSchema, { name: "a", lb_policy: "RANDOM" }, { lb_policy: "ROUND_ROBIN" })).toEqual({
      name: "a",
      lb_policy: "RANDOM",
    });
  });

  it("replaces durations as a whole, in messages of messages too", () => {
    expect(merged(ClusterSchema, { connect_timeout: "1.500s" }, { connect_timeout: "5s" })).toEqual({ connect_timeout: "5s" });
    const target = { outlier_detection: { interval: "0.5s", consecutive_5xx: 3 } };
    expect(merged(ClusterSchema, target, { outlier_detection: { interval: "7s" } })).toEqual({
      outlier_detection: { interval: "7s", consecutive_5xx: 3 },
    });
  });

  it("takes a wrapper that is more than zero, and passes over one that is zero", () => {
    expect(merged(ClusterSchema, { per_connection_buffer_limit_bytes: 5 }, { per_connection_buffer_limit_bytes: 7 })).toEqual({
      per_connection_buffer_limit_bytes: 7,
    });
    expect(merged(ClusterSchema, { per_connection_buffer_limit_bytes: 5 }, { per_connection_buffer_limit_bytes: 0 })).toEqual({
      per_connection_buffer_limit_bytes: 5,
    });
    expect(merged(ListenerSchema, { use_original_dst: true }, { use_original_dst: false })).toEqual({ use_original_dst: true });
  });

  it("appends to lists, or replaces them", () => {
    const [target, patch] = [{ listener_filters: [{ name: "a" }, { name: "b" }] }, { listener_filters: [{ name: "c" }] }];
    expect(merged(ListenerSchema, target, patch)).toEqual({ listener_filters: [{ name: "a" }, { name: "b" }, { name: "c" }] });
    expect(merged(ListenerSchema, target, patch, true)).toEqual({ listener_filters: [{ name: "c" }] });
    const nested = { default_filter_chain: { filters: [{ name: "a" }], name: "kept" } };
    expect(merged(ListenerSchema, nested, { default_filter_chain: { filters: [{ name: "b" }] } }, true)).toEqual({
      default_filter_chain: { filters: [{ name: "b" }], name: "kept" },
    });
    expect(merged(ListenerSchema, target, { name: "x" }, true)).toEqual({ name: "x", ...target });
  });

  it("replaces entries of maps, and of structs", () => {
    const metadata = (fields: JsonValue) => ({ metadata: { filter_metadata: { istio: fields } } });
    expect(merged(RouteSchema, metadata({ a: 1, b: 2 }), metadata({ b: 3 }))).toEqual(metadata({ b: 3 }));
    const typed = (name: string, type: string) => ({ typed_per_filter_config: { [name]: { "@type": type } } });
    const [cors, router] = [
      "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors",
      `type.googleapis.com/${RouterSchema.typeName}`,
    ];
    expect(merged(RouteSchema, typed("a", cors), typed("a", router))).toEqual(typed("a", router));
    expect(merged(RouteSchema, typed("a", cors), typed("b", router))).toEqual({
      typed_per_filter_config: { ...typed("a", cors).typed_per_filter_config, ...typed("b", router).typed_per_filter_config },
    });
  });

  it("chooses the other part of a oneof", () => {
    expect(merged(RouteSchema, { route: { cluster: "a", timeout: "1s" } }, { direct_response: { status: 404 } })).toEqual({
      direct_response: { status: 404 },
    });
    expect(merged(RouteSchema, { route: { cluster: "a", timeout: "1s" } }, { route: { cluster_header: "x" } })).toEqual({
      route: { cluster_header: "x", timeout: "1s" },
    });
  });
});

describe("mergeAny", () => {
  const unpacked = (any: Any | undefined) => any && toJson(anyDescription, any, { registry: envoyTypes, useProtoFieldName: true });
  const anyDescription = envoyTypes.getMessage("google.protobuf.Any")! as typeof AnySchema;
  const router = (init: { suppressEnvoyHeaders?: boolean; strictCheckHeaders?: string[] }) =>
    anyPack(RouterSchema, create(RouterSchema, init));

  it("merges what is inside", () => {
    const result = mergeAny(router({ strictCheckHeaders: ["a"] }), router({ strictCheckHeaders: ["b"], suppressEnvoyHeaders: true }));
    expect(unpacked(result)).toEqual({
      "@type": `type.googleapis.com/${RouterSchema.typeName}`,
      strict_check_headers: ["a", "b"],
      suppress_envoy_headers: true,
    });
  });

  it("merges a TypedStruct into another, entry by entry", () => {
    const struct = (value: Record<string, number>) => anyPack(TypedStructSchema, create(TypedStructSchema, { typeUrl: "t", value }));
    expect(unpacked(mergeAny(struct({ a: 1, b: 2 }), struct({ b: 3 })))).toMatchObject({ type_url: "t", value: { a: 1, b: 3 } });
  });

  it("has nothing to say of two types", () => {
    expect(mergeAny(router({}), anyPack(CorsSchema, create(CorsSchema)))).toBeUndefined();
    expect(mergeAny(router({}), { ...router({}), typeUrl: "type.googleapis.com/example.Unknown" })).toBeUndefined();
  });
});
