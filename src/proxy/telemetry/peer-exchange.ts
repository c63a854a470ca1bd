/**
 * Metadata exchange on a connection without HTTP: after a TLS handshake that has agreed on `istio-peer-exchange` each side first says which
 * workload it is of; then come the application's bytes.
 *
 *      magic 3D230467   length, 4 bytes, big-endian   google.protobuf.Any of a Struct, which holds the metadata under a header's name
 *
 * Source: Istio's proxy, source/extensions/filters/network/metadata_exchange.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import type { MetadataExchange } from "../../api/gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import type { CompileContext } from "../compile-context.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import { keepChunk } from "../transport.ts";
import type { Telemetry } from "./telemetry.ts";
import { decodeStruct, encodeStruct, peerFromMetadata, peerToJson, type WorkloadPeer } from "./workload-peer.ts";

const magic = 0x3d230467;
const headBytes = 8;
/** Istio's proxy would wait for any number. */
const maxBytes = 64 * 1024;
const structTypeUrl = "type.googleapis.com/google.protobuf.Struct";
const valueField = "x-envoy-peer-metadata";
const idField = "x-envoy-peer-metadata-id";

const counters = [
  "alpn_protocol_not_found",
  "alpn_protocol_found",
  "initial_header_not_found",
  "header_not_found",
  "metadata_added",
] as const;

const made = new WeakMap<Telemetry, Map<string, PeerExchange>>();

/** Every cluster has the same, so it is made once. Throws ConfigError. */
export function peerExchange(config: MetadataExchange, context: CompileContext): PeerExchange {
  const key = [config.protocol, ...config.additionalLabels].join("\0");
  const known = made.get(context.telemetry) ?? new Map<string, PeerExchange>();
  made.set(context.telemetry, known);
  let exchange = known.get(key);
  if (exchange === undefined) {
    exchange = new PeerExchange(config, context);
    known.set(key, exchange);
  }
  return exchange;
}

/** One filter's configuration, of either side. */
export class PeerExchange {
  readonly protocol: string;
  readonly additionalLabels: readonly string[];
  readonly stats: StatsStore;
  readonly at: Readonly<Record<(typeof counters)[number], StatIndex>>;
  /** What is said first. */
  readonly greeting: Buffer;

  constructor(config: MetadataExchange, { stats, telemetry }: CompileContext) {
    if (config.protocol === "") throw new ConfigError("MetadataExchange: protocol: value length must be at least 1 characters");
    this.protocol = config.protocol;
    this.additionalLabels = config.additionalLabels;
    this.stats = stats;
    const at: Record<string, StatIndex> = {};
    for (const name of counters) at[name] = stats.counter(`metadata_exchange.${name}`);
    this.at = at as PeerExchange["at"];
    this.greeting = greetingOf(telemetry.self(config.additionalLabels), telemetry.nodeId);
  }

  /** Whether it takes place on a connection that has agreed on that protocol, `false` for none. */
  begins(protocol: string | false | null): boolean {
    const agrees = protocol === this.protocol;
    this.stats.add(agrees ? this.at.alpn_protocol_found : this.at.alpn_protocol_not_found, 1);
    if (agrees) this.stats.add(this.at.metadata_added, 1);
    return agrees;
  }
}

function greetingOf(peer: WorkloadPeer, nodeId: string): Buffer {
  const value = encodeStruct({ [valueField]: peerToJson(peer), [idField]: nodeId });
  const body = toBinary(AnySchema, create(AnySchema, { typeUrl: structTypeUrl, value }));
  const greeting = Buffer.alloc(headBytes + body.length);
  greeting.writeUInt32BE(magic, 0);
  greeting.writeUInt32BE(body.length, 4);
  greeting.set(body, headBytes);
  return greeting;
}

/** `bytes` are the application's; undefined: more has to come. `refused`: this is nobody to talk to. */
export type GreetingRead = { readonly bytes: Buffer; readonly peer: WorkloadPeer | null } | "incomplete" | "refused";

/** Reads the other side's greeting. */
export class GreetingReader {
  readonly #exchange: PeerExchange;
  #kept: Buffer[] = [];
  #keptBytes = 0;

  constructor(exchange: PeerExchange) {
    this.#exchange = exchange;
  }

  /** With `endStream` the other side will say no more. */
  read(chunk: Buffer, endStream: boolean): GreetingRead {
    const { stats, at } = this.#exchange;
    this.#keptBytes += chunk.length;
    const bytes = this.#kept.length === 0 ? chunk : Buffer.concat([...this.#kept, chunk]);
    if (bytes.length < headBytes) {
      if (endStream) return { bytes, peer: null };
      return this.#keep(chunk);
    }
    if (bytes.readUInt32BE(0) !== magic) {
      stats.add(at.initial_header_not_found, 1);
      return { bytes, peer: null };
    }
    const end = headBytes + bytes.readUInt32BE(4);
    if (end > maxBytes) {
      stats.add(at.header_not_found, 1);
      return "refused";
    }
    if (bytes.length < end) return endStream ? "refused" : this.#keep(chunk);
    const peer = this.#peerIn(bytes.subarray(headBytes, end));
    if (peer === null) stats.add(at.header_not_found, 1);
    return { bytes: bytes.subarray(end), peer };
  }

  #keep(chunk: Buffer): "incomplete" {
    this.#kept.push(keepChunk(chunk));
    return "incomplete";
  }

  #peerIn(body: Buffer): WorkloadPeer | null {
    try {
      const value = decodeStruct(fromBinary(AnySchema, body).value)?.[valueField];
      return typeof value === "object" && value !== null && !Array.isArray(value)
        ? peerFromMetadata(value, this.#exchange.additionalLabels)
        : null;
    } catch {
      return null;
    }
  }
}
