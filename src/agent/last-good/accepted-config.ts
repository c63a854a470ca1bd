/** Follows one xDS stream and tells what the client has accepted: responses it acknowledged, in both protocols. */
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { EncodedResource } from "../../ads/resource.ts";
import { isWildcardType } from "../../ads/subscription.ts";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../../api/gen/envoy/service/discovery/v3/discovery_pb.js";

interface Offer {
  readonly typeUrl: string;
  readonly changed: readonly EncodedResource[];
  readonly removed: readonly string[];
  readonly isWhole: boolean;
}

export type OnAccepted = (typeUrl: string, changed: readonly EncodedResource[], removed: readonly string[], isWhole: boolean) => void;

/** Answers that a client leaves without a word are forgotten after so many. */
const maxOffers = 64;

export class AcceptedConfig {
  readonly #isDelta: boolean;
  readonly #onAccepted: OnAccepted;
  readonly #offers = new Map<string, Offer>();

  constructor(isDelta: boolean, onAccepted: OnAccepted) {
    this.#isDelta = isDelta;
    this.#onAccepted = onAccepted;
  }

  /** What is no response is for the client to refuse. */
  onResponse(bytes: Uint8Array): void {
    const read = orUndefined(() => (this.#isDelta ? readDelta(bytes) : readStateOfTheWorld(bytes)));
    if (!read) return;
    const { nonce, ...offer } = read;
    this.#offers.set(nonce, offer);
    if (this.#offers.size > maxOffers) this.#offers.delete(this.#offers.keys().next().value!);
  }

  onRequest(bytes: Uint8Array): void {
    const request = orUndefined(() =>
      this.#isDelta ? fromBinary(DeltaDiscoveryRequestSchema, bytes) : fromBinary(DiscoveryRequestSchema, bytes),
    );
    const offer = request && this.#offers.get(request.responseNonce);
    if (!offer) return;
    const { responseNonce, errorDetail } = request;
    this.#offers.delete(responseNonce);
    if (!errorDetail) this.#onAccepted(offer.typeUrl, offer.changed, offer.removed, offer.isWhole);
  }
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function readDelta(bytes: Uint8Array): Offer & { readonly nonce: string } {
  const { typeUrl, nonce, resources, removedResources } = fromBinary(DeltaDiscoveryResponseSchema, bytes);
  return {
    typeUrl,
    nonce,
    changed: resources.flatMap(({ name, version, resource }) => (resource ? [{ typeUrl, name, version, bytes: resource.value }] : [])),
    removed: removedResources,
    isWhole: false,
  };
}

function readStateOfTheWorld(bytes: Uint8Array): Offer & { readonly nonce: string } {
  const { typeUrl, nonce, versionInfo, resources } = fromBinary(DiscoveryResponseSchema, bytes);
  const changed = resources.map(({ value }) => ({ typeUrl, name: nameOf(value), version: versionInfo, bytes: value }));
  return { typeUrl, nonce, changed, removed: [], isWhole: isWildcardType(typeUrl) };
}

/** All of xDS's resources have their name in field 1; a name table has none. */
function nameOf(resource: Uint8Array): string {
  const reader = new BinaryReader(resource);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) return wireType === WireType.LengthDelimited ? Buffer.from(reader.bytes()).toString("utf8") : "";
    reader.skip(wireType, field);
  }
  return "";
}
