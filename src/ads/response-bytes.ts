/**
 * Discovery responses as they travel. Resources are encoded already, and the same for many clients: all that is left to write is what stands
 * around them, so this does it field by field, into one buffer, instead of by a message that would be copied again at each of its levels.
 * Source: envoy/service/discovery/v3/discovery.proto.
 */
import type { EncodedResource } from "./resource.ts";

export interface Answer {
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly EncodedResource[];
  /** Names; delta alone can say them. */
  readonly removed: readonly string[];
}

/** Length-delimited fields with numbers below 16 have a tag of one byte. */
const tag = (field: number) => (field << 3) | 2;

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length++;
  return length;
}

const fieldLength = (content: number) => 1 + varintLength(content) + content;

/** An empty string is the default, and is not written. */
const textLength = (text: string) => (text === "" ? 0 : fieldLength(Buffer.byteLength(text)));

class Writer {
  readonly bytes: Buffer;
  #at = 0;

  constructor(length: number) {
    this.bytes = Buffer.allocUnsafe(length);
  }

  head(field: number, length: number): void {
    this.bytes[this.#at++] = tag(field);
    let rest = length;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) this.bytes[this.#at++] = (rest % 128) | 0x80;
    this.bytes[this.#at++] = rest;
  }

  text(field: number, text: string): void {
    if (text === "") return;
    this.head(field, Buffer.byteLength(text));
    this.#at += this.bytes.write(text, this.#at);
  }

  copy(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }
}

/** google.protobuf.Any: type_url 1, value 2. */
const anyLength = ({ typeUrl, bytes }: EncodedResource) => textLength(typeUrl) + (bytes.length === 0 ? 0 : fieldLength(bytes.length));

function writeAny(writer: Writer, { typeUrl, bytes }: EncodedResource): void {
  writer.text(1, typeUrl);
  if (bytes.length === 0) return;
  writer.head(2, bytes.length);
  writer.copy(bytes);
}

/** DiscoveryResponse: version_info 1, resources 2, type_url 4, nonce 5. */
export function sotwResponse({ typeUrl, version, nonce, resources }: Answer): Buffer {
  let length = textLength(version) + textLength(typeUrl) + textLength(nonce);
  for (const resource of resources) length += fieldLength(anyLength(resource));
  const writer = new Writer(length);
  writer.text(1, version);
  for (const resource of resources) {
    writer.head(2, anyLength(resource));
    writeAny(writer, resource);
  }
  writer.text(4, typeUrl);
  writer.text(5, nonce);
  return writer.bytes;
}

/** Resource: version 1, resource 2, name 3. */
const resourceLength = (resource: EncodedResource) =>
  textLength(resource.version) + fieldLength(anyLength(resource)) + textLength(resource.name);

/** DeltaDiscoveryResponse: system_version_info 1, resources 2, type_url 4, nonce 5, removed_resources 6. */
export function deltaResponse({ typeUrl, version, nonce, resources, removed }: Answer): Buffer {
  let length = textLength(version) + textLength(typeUrl) + textLength(nonce);
  for (const resource of resources) length += fieldLength(resourceLength(resource));
  for (const name of removed) length += textLength(name);
  const writer = new Writer(length);
  writer.text(1, version);
  for (const resource of resources) {
    writer.head(2, resourceLength(resource));
    writer.text(1, resource.version);
    writer.head(2, anyLength(resource));
    writeAny(writer, resource);
    writer.text(3, resource.name);
  }
  writer.text(4, typeUrl);
  writer.text(5, nonce);
  for (const name of removed) writer.text(6, name);
  return writer.bytes;
}
