/** Header blocks, which may come in any number of frames with nothing between them. */
import { type ErrorCode, errorCode, flag } from "./frames.ts";

/** Most of them would be empty: a client pays nothing for those. */
const maxParts = 64;

export interface BlockProblem {
  readonly code: ErrorCode;
  readonly reason: string;
}

export class HeaderBlocks {
  readonly #maxBytes: number;
  /** Whose block is not complete; -1: nobody's. */
  streamId = -1;
  endStream = false;
  problem: BlockProblem | null = null;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** `maxBytes`: of a block as it comes, compressed. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get isComplete(): boolean {
    return this.streamId < 0;
  }

  /** HEADERS. The block when it is complete; null when it is not, or there is a `problem`. */
  begin(flags: number, streamId: number, payload: Buffer): Buffer | null {
    if (streamId === 0 || streamId % 2 === 0) return this.#wrong(errorCode.protocol, "HEADERS on a stream that can't be a client's");
    let from = 0;
    let to = payload.length;
    if (flags & flag.padded) {
      if (to < 1) return this.#wrong(errorCode.frameSize, "HEADERS is too short");
      from = 1;
      to -= payload[0]!;
    }
    if (flags & flag.priority) {
      if (from + 5 > payload.length) return this.#wrong(errorCode.frameSize, "HEADERS is too short");
      if (dependsOn(payload, from) === streamId) return this.#wrong(errorCode.protocol, "a stream that depends on itself");
      from += 5;
    }
    if (to < from) return this.#wrong(errorCode.protocol, "more padding than payload");
    this.endStream = (flags & flag.endStream) !== 0;
    const part = payload.subarray(from, to);
    if (flags & flag.endHeaders) return part;
    this.streamId = streamId;
    return this.#keep(part);
  }

  /** CONTINUATION. */
  continue(flags: number, streamId: number, payload: Buffer): Buffer | null {
    if (streamId !== this.streamId) return this.#wrong(errorCode.protocol, "CONTINUATION of another stream");
    this.#keep(payload);
    if (this.problem !== null || (flags & flag.endHeaders) === 0) return null;
    const block = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    this.streamId = -1;
    return block;
  }

  #keep(part: Buffer): null {
    this.#parts.push(Buffer.from(part));
    this.#bytes += part.length;
    return this.#bytes > this.#maxBytes || this.#parts.length > maxParts
      ? this.#wrong(errorCode.enhanceYourCalm, "header block without an end")
      : null;
  }

  #wrong(code: ErrorCode, reason: string): null {
    this.problem = { code, reason };
    return null;
  }
}

/** Of a priority: the stream that comes before. */
export function dependsOn(payload: Buffer, at: number): number {
  return payload.readUInt32BE(at) & 0x7fff_ffff;
}
