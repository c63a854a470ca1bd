/**
 * Who the proxy is, as long as its machine keeps its address and after. A bootstrap is read once and so names the first address; what the proxy
 * says of itself is put right on its way to the control plane, which works for an Envoy too.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { NodeSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { DeltaDiscoveryRequestSchema, DiscoveryRequestSchema } from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { formerAddressesKey } from "../api/node.ts";
import type { NodeIdentity } from "./node.ts";

/** A machine that moves so often before a control plane hears of it has other troubles. */
const maxFormer = 8;

export class CurrentNode {
  readonly #first: NodeIdentity;
  #addresses: readonly string[];
  /** Those that the control plane may still know this machine by. */
  #former: readonly string[] = [];

  constructor(first: NodeIdentity) {
    this.#first = first;
    this.#addresses = first.addresses;
  }

  get addresses(): readonly string[] {
    return this.#addresses;
  }

  get id(): string {
    const [type, , ...rest] = this.#first.id.split("~");
    return [type, this.#addresses[0], ...rest].join("~");
  }

  get metadata(): Readonly<Record<string, unknown>> {
    return this.#first.metadata;
  }

  moveTo(addresses: readonly string[]): void {
    const former = new Set([...this.#former, this.#addresses[0]!]);
    former.delete(addresses[0]!);
    this.#former = [...former].slice(-maxFormer);
    this.#addresses = addresses;
  }

  /** The control plane has answered: it knows where this machine is. */
  forgetFormer(): void {
    this.#former = [];
  }

  /** The first request of a stream, by today's address. What can't be read is the control plane's to refuse. */
  correct(request: Buffer, isDelta: boolean): Buffer {
    if (this.#addresses === this.#first.addresses) return request;
    const schema = isDelta ? DeltaDiscoveryRequestSchema : DiscoveryRequestSchema;
    try {
      const message = fromBinary(schema, request);
      const node = message.node ?? create(NodeSchema);
      node.id = this.id;
      node.metadata = { ...node.metadata, INSTANCE_IPS: this.#addresses.join(",") };
      if (this.#former.length > 0) node.metadata[formerAddressesKey] = this.#former.join(",");
      message.node = node;
      return Buffer.from(toBinary(schema, message));
    } catch {
      return request;
    }
  }
}
