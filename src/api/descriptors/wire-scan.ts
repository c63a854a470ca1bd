/** First and behind the last of the bytes of a message within its file. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Walks over the fields of one encoded message of descriptor.proto, without making anything of them. Source of the encoding:
 * protobuf.dev/programming-guides/encoding; groups don't occur in descriptors.
 */
export class WireScan {
  /** Of the field that `next` came to. */
  number = 0;
  /** Of a varint, as an unsigned number of 32 bits. */
  value = 0;
  /** Of what has a length. */
  from = 0;
  to = 0;
  readonly bytes: Buffer;
  readonly #end: number;
  #at: number;

  constructor(bytes: Buffer, { from, to }: Range) {
    this.bytes = bytes;
    this.#at = from;
    this.#end = to;
  }

  /** To the next field; false behind the last. */
  next(): boolean {
    if (this.#at >= this.#end) return false;
    const tag = this.#varint();
    this.number = tag >>> 3;
    switch (tag & 7) {
      case 0:
        this.value = this.#varint();
        break;
      case 1:
        this.#at += 8;
        break;
      case 2: {
        const length = this.#varint();
        this.from = this.#at;
        this.#at += length;
        this.to = this.#at;
        break;
      }
      case 5:
        this.#at += 4;
        break;
      default:
        throw new Error(`wire type ${tag & 7} in a descriptor`);
    }
    return true;
  }

  /** Names in descriptors are ASCII. */
  text(): string {
    return this.bytes.latin1Slice(this.from, this.to);
  }

  range(): Range {
    return { from: this.from, to: this.to };
  }

  /** Over the fields of the message that `next` came to. */
  within(): WireScan {
    return new WireScan(this.bytes, this);
  }

  #varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.#at++]!;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  }
}

/** Of the options that `scan` has come to. */
export function flagOf(scan: WireScan, number: number): boolean {
  let flag = false;
  for (const options = scan.within(); options.next(); ) if (options.number === number) flag = options.value !== 0;
  return flag;
}
