/** HPACK (RFC 7541), reading: one connection's header blocks, in order. */
import type { HeaderList } from "../stream-info.ts";
import { decodeHuffman } from "./huffman.ts";
import { entryOverhead, staticTable } from "./static-table.ts";

/** What is wrong is told by a number: nothing is thrown where anybody can make it happen at will. */
export type BlockOutcome = "ok" | "compressionError" | "tooLarge";

const staticNames = staticTable.map(([name]) => name);
const staticValues = staticTable.map(([, value]) => value);

export class HpackDecoder {
  /** What we have said that it may be. */
  readonly #maxTableBytes: number;
  /** Names and values of the dynamic table, the newest last. */
  #table: string[] = [];
  #tableBytes = 0;
  #tableLimit: number;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #failed = false;

  constructor(maxTableBytes = 4096) {
    this.#maxTableBytes = maxTableBytes;
    this.#tableLimit = maxTableBytes;
  }

  /**
   * Appends names and values to `into`. A list that is longer than `maxBytes` is read to its end, since the table depends on it, but not kept.
   * After a compression error the connection is of no use. Hot.
   */
  decode(block: Buffer, into: HeaderList, maxBytes: number): BlockOutcome {
    this.#bytes = block;
    this.#at = 0;
    this.#failed = false;
    let size = 0;
    let sawField = false;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      let name: string;
      let value: string;
      if (first >= 0x80) {
        const index = this.#integer(7);
        if (index <= 0 || !this.#has(index)) return "compressionError";
        name = this.#nameAt(index);
        value = this.#valueAt(index);
      } else if (first >= 0x40) {
        name = this.#name(6);
        value = this.#string();
        if (this.#failed) return "compressionError";
        this.#insert(name, value);
      } else if (first >= 0x20) {
        const limit = this.#integer(5);
        // Only before the first field, and never more than was allowed.
        if (sawField || limit < 0 || limit > this.#maxTableBytes) return "compressionError";
        this.#tableLimit = limit;
        this.#evict();
        continue;
      } else {
        name = this.#name(4);
        value = this.#string();
      }
      if (this.#failed) return "compressionError";
      sawField = true;
      size += name.length + value.length + entryOverhead;
      if (size <= maxBytes) into.push(name, value);
    }
    return size > maxBytes ? "tooLarge" : "ok";
  }

  #has(index: number): boolean {
    return index <= staticNames.length + this.#table.length / 2;
  }

  #nameAt(index: number): string {
    return index <= staticNames.length ? staticNames[index - 1]! : this.#table[this.#table.length - 2 * (index - staticNames.length)]!;
  }

  #valueAt(index: number): string {
    return index <= staticNames.length ? staticValues[index - 1]! : this.#table[this.#table.length - 2 * (index - staticNames.length) + 1]!;
  }

  #name(prefixBits: number): string {
    const index = this.#integer(prefixBits);
    if (index === 0) return this.#string();
    if (index < 0 || !this.#has(index)) {
      this.#failed = true;
      return "";
    }
    return this.#nameAt(index);
  }

  #string(): string {
    const bytes = this.#bytes;
    if (this.#at >= bytes.length) {
      this.#failed = true;
      return "";
    }
    const isHuffman = bytes[this.#at]! >= 0x80;
    const length = this.#integer(7);
    const end = this.#at + length;
    if (length < 0 || end > bytes.length) {
      this.#failed = true;
      return "";
    }
    const text = isHuffman ? decodeHuffman(bytes, this.#at, end) : bytes.latin1Slice(this.#at, end);
    this.#at = end;
    if (text === null) {
      this.#failed = true;
      return "";
    }
    return text;
  }

  /** Negative when it is cut off, or larger than anything here may be. */
  #integer(prefixBits: number): number {
    const bytes = this.#bytes;
    const mask = (1 << prefixBits) - 1;
    let value = bytes[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= bytes.length) return -1;
      const byte = bytes[this.#at++]!;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return -1;
  }

  #insert(name: string, value: string): void {
    this.#table.push(name, value);
    this.#tableBytes += name.length + value.length + entryOverhead;
    this.#evict();
  }

  #evict(): void {
    if (this.#tableBytes <= this.#tableLimit) return;
    let gone = 0;
    while (this.#tableBytes > this.#tableLimit) {
      this.#tableBytes -= this.#table[gone]!.length + this.#table[gone + 1]!.length + entryOverhead;
      gone += 2;
    }
    this.#table.splice(0, gone);
  }
}
