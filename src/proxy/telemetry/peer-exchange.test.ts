import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { NodeSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { MetadataExchangeSchema } from "../../api/gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { StatsStore } from "../stats/store.ts";
import { GreetingReader, peerExchange } from "./peer-exchange.ts";
import { Telemetry } from "./telemetry.ts";

function exchangeOf(metadata = {}) {
  const stats = new StatsStore();
  const telemetry = new Telemetry(create(NodeSchema, { id: "sidecar~a~b~c", metadata }), stats);
  const exchange = peerExchange(create(MetadataExchangeSchema, { protocol: "istio-peer-exchange" }), {
    stats,
    telemetry,
  } as CompileContext);
  return { exchange, count: (name: keyof typeof exchange.at) => stats.values[exchange.at[name]] };
}

/** Big-endian lengths, as on the wire. */
const head = (length: number, magic = 0x3d230467) => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt32BE(length, 4);
  return bytes;
};

describe("the exchange of metadata on a connection", () => {
  const { exchange } = exchangeOf({ WORKLOAD_NAME: "web", NAMESPACE: "shop", LABELS: { app: "web" } });

  it("greets with magic, length, and an Any of a Struct that holds the metadata by its header's name", () => {
    const { greeting } = exchange;
    expect(greeting.subarray(0, 8)).toEqual(head(greeting.length - 8));
    const text = greeting.toString("latin1");
    expect(text).toContain("type.googleapis.com/google.protobuf.Struct");
    expect(text).toMatch(/x-envoy-peer-metadata[^-]/);
    expect(text).toContain("x-envoy-peer-metadata-id");
    expect(text).toContain("sidecar~a~b~c");
  });

  it.each([1, 7, 8, 9, 50, 10_000])("is read when it comes in pieces of %d bytes", (size) => {
    const bytes = Buffer.concat([exchange.greeting, Buffer.from("application")]);
    const reader = new GreetingReader(exchange);
    let at = 0;
    let read: ReturnType<GreetingReader["read"]> = "incomplete";
    while (read === "incomplete") {
      read = reader.read(bytes.subarray(at, at + size), false);
      at += size;
    }
    if (read === "refused") throw new Error("refused");
    expect(read.peer).toMatchObject({ workload: "web", namespace: "shop", app: "web" });
    expect(read.bytes.toString() + bytes.subarray(at).toString()).toBe("application");
  });

  it("leaves bytes that are no greeting as they are", () => {
    const { exchange: own, count } = exchangeOf();
    const bytes = Buffer.from("GET / HTTP/1.1");
    expect(new GreetingReader(own).read(bytes, false)).toEqual({ bytes, peer: null });
    expect(count("initial_header_not_found")).toBe(1);
  });

  it("leaves what it had kept when the other side has nothing more to say", () => {
    const reader = new GreetingReader(exchange);
    expect(reader.read(Buffer.from("ab"), false)).toBe("incomplete");
    expect(reader.read(Buffer.alloc(0), true)).toEqual({ bytes: Buffer.from("ab"), peer: null });
  });

  it.each([
    ["longer than any", Buffer.concat([head(0x7fffffff), Buffer.from("x")]), false],
    ["cut off", exchange.greeting.subarray(0, 40), true],
  ])("refuses a greeting that is %s", (_, bytes, isOver) => {
    expect(new GreetingReader(exchange).read(bytes, isOver)).toBe("refused");
  });

  it("knows nobody by a greeting that says nothing", () => {
    const { exchange: own, count } = exchangeOf();
    const bytes = Buffer.concat([head(3), Buffer.from([0xff, 0xff, 0xff]), Buffer.from("rest")]);
    expect(new GreetingReader(own).read(bytes, false)).toEqual({ bytes: Buffer.from("rest"), peer: null });
    expect(count("header_not_found")).toBe(1);
  });

  it("begins where both sides have agreed on it", () => {
    const { exchange: own, count } = exchangeOf();
    expect([own.begins("istio-peer-exchange"), own.begins("h2"), own.begins(false), own.begins(null)]).toEqual([true, false, false, false]);
    expect([count("alpn_protocol_found"), count("alpn_protocol_not_found"), count("metadata_added")]).toEqual([1, 3, 1]);
  });
});
