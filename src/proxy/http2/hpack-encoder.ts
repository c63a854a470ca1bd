/**
 * HPACK (RFC 7541), writing: text of latin1, each character a byte, since that is what a transport gathers soonest. A field that is like the
 * last of its name on this connection is a byte or two; others are literals, without Huffman's code, which costs more than it saves here.
 */
import type { HeaderList } from "../stream-info.ts";
import { entryOverhead, staticTable } from "./static-table.ts";

export interface RequestTarget {
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  readonly path: string;
  readonly protocol: string;
}

interface Entry {
  readonly name: string;
  readonly value: string;
  /** How many were inserted before it, ever. */
  readonly serial: number;
}

/** What is an entry by itself, as `:status 200` and `:method GET`; other values only borrow the name. */
const staticFields = new Map<string, Map<string, number>>();
for (const [index, [name, value]] of staticTable.entries()) {
  if (value !== "") staticFields.set(name, (staticFields.get(name) ?? new Map<string, number>()).set(value, index + 1));
}
const staticPart = (name: string) => staticFields.get(name)!;
const statuses = staticPart(":status");
const methods = staticPart(":method");
const schemes = staticPart(":scheme");
const paths = staticPart(":path");
const staticNames = new Map<string, number>();
for (const [index, [name]] of staticTable.entries()) if (!staticNames.has(name)) staticNames.set(name, index + 1);

/** Of these the next value is another as a rule: they would only push out what is worth remembering. */
const neverTheSame: ReadonlySet<string> = new Set([
  ":path",
  "if-modified-since",
  "if-none-match",
  "traceparent",
  "content-length",
  "etag",
  "last-modified",
  "age",
  "location",
  "x-request-id",
  "x-envoy-upstream-service-time",
]);
/** Not for a table that is shared with others on the way (RFC 7541, 7.1). */
const secret: ReadonlySet<string> = new Set(["set-cookie", "authorization", "cookie"]);
const longestRemembered = 1024;

export class HpackEncoder {
  /** The newest of each name. */
  readonly #latest = new Map<string, Entry>();
  /** Oldest first, from `#oldest` on. */
  #entries: Entry[] = [];
  #oldest = 0;
  #inserted = 0;
  #tableBytes = 0;
  #tableLimit = 4096;
  /** Since the last block. */
  #smallestLimit = 4096;
  #announcement = "";

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; of more than the usual size nothing is made. */
  setTableLimit(bytes: number): void {
    const limit = Math.min(bytes, 4096);
    if (limit === this.#tableLimit) return;
    this.#tableLimit = limit;
    this.#evict();
    // Of several changes before a block the peer must hear the smallest, and the last (RFC 7541, 4.2).
    this.#smallestLimit = Math.min(this.#smallestLimit, limit);
    this.#announcement = (this.#smallestLimit < limit ? integer(0x20, 5, this.#smallestLimit) : "") + integer(0x20, 5, limit);
  }

  /** A block of a response. Hot. */
  response(status: number, headers: HeaderList): string {
    const written = String(status);
    const index = statuses.get(written);
    return this.#block() + (index === undefined ? this.#field(":status", written) : indexed(index)) + this.#fields(headers);
  }

  /** A block of a request; `protocol` is empty but for an extended CONNECT. Hot. */
  request({ method, scheme, authority, path, protocol }: RequestTarget, headers: HeaderList): string {
    let block = this.#block() + this.#pseudo(methods, ":method", method);
    // A CONNECT to an authority has neither.
    if (method !== "CONNECT" || protocol !== "") block += this.#pseudo(schemes, ":scheme", scheme) + this.#pseudo(paths, ":path", path);
    if (authority !== "") block += this.#field(":authority", authority);
    if (protocol !== "") block += this.#field(":protocol", protocol);
    return block + this.#fields(headers);
  }

  trailers(headers: HeaderList): string {
    return this.#block() + this.#fields(headers);
  }

  /** How a block begins. */
  #block(): string {
    const announcement = this.#announcement;
    this.#announcement = "";
    this.#smallestLimit = this.#tableLimit;
    return announcement;
  }

  #fields(headers: HeaderList): string {
    let block = "";
    for (let i = 0; i < headers.length; i += 2) block += this.#field(headers[i]!, headers[i + 1]!);
    return block;
  }

  #pseudo(known: ReadonlyMap<string, number>, name: string, value: string): string {
    const index = known.get(value);
    return index === undefined ? this.#field(name, value) : indexed(index);
  }

  #field(name: string, value: string): string {
    const known = this.#latest.get(name);
    if (known !== undefined && known.value === value) return indexed(this.#indexOf(known));
    const nameIndex = staticNames.get(name) ?? (known === undefined ? 0 : this.#indexOf(known));
    const isSecret = secret.has(name);
    const remembers = !isSecret && value.length <= longestRemembered && this.#tableLimit >= 512 && !neverTheSame.has(name);
    const head = remembers ? integer(0x40, 6, nameIndex) : integer(isSecret ? 0x10 : 0, 4, nameIndex);
    if (remembers) this.#remember(name, value);
    return nameIndex === 0 ? head + literal(name) + literal(value) : head + literal(value);
  }

  #indexOf({ serial }: Entry): number {
    return staticTable.length + this.#inserted - serial;
  }

  #remember(name: string, value: string): void {
    const entry = { name, value, serial: this.#inserted++ };
    this.#entries.push(entry);
    this.#latest.set(name, entry);
    this.#tableBytes += name.length + value.length + entryOverhead;
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#tableLimit) {
      const gone = this.#entries[this.#oldest++]!;
      this.#tableBytes -= gone.name.length + gone.value.length + entryOverhead;
      if (this.#latest.get(gone.name) === gone) this.#latest.delete(gone.name);
    }
    if (this.#oldest > 64) {
      this.#entries = this.#entries.slice(this.#oldest);
      this.#oldest = 0;
    }
  }
}

const byte = Array.from({ length: 256 }, (_, value) => String.fromCharCode(value));

function indexed(index: number): string {
  return index < 0x7f ? byte[0x80 | index]! : integer(0x80, 7, index);
}

function literal(text: string): string {
  return text.length < 0x7f ? byte[text.length]! + text : integer(0, 7, text.length) + text;
}

function integer(pattern: number, prefixBits: number, value: number): string {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) return byte[pattern | value]!;
  let text = byte[pattern | mask]!;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) text += byte[(rest & 0x7f) | 0x80]!;
  return text + byte[rest]!;
}
