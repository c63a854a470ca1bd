/**
 * Responses that were written last, for the next clients that get the very same: in a mesh hundreds of proxies take the same megabytes within a
 * second. Kept as long as they are asked for, and no more than so many bytes.
 */
import { randomUUID } from "node:crypto";
import { sameElements } from "../lib/same-elements.ts";
import type { Answer } from "./response-bytes.ts";

const maxBytes = 32 * 1024 * 1024;
/** What nobody has asked for since is given up. */
const idleMs = 1000;

type Content = Omit<Answer, "nonce">;

export interface WrittenResponse {
  readonly nonce: string;
  readonly bytes: Buffer;
}

interface Entry extends WrittenResponse {
  readonly content: Content;
}

export class SharedResponses {
  readonly #write: (answer: Answer) => Buffer;
  /** The one that was used last stands last. */
  readonly #entries = new Set<Entry>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #isUsed = false;

  constructor(write: (answer: Answer) => Buffer) {
    this.#write = write;
  }

  /** `lastNonce`: of the response before on the same stream, which must have another. */
  get(content: Content, lastNonce: string): WrittenResponse {
    this.#keepForNow();
    const known = this.#find(content);
    if (known && known.nonce !== lastNonce) {
      this.#entries.delete(known);
      this.#entries.add(known);
      return known;
    }
    const nonce = `${content.version}${randomUUID()}`;
    const written = { content, nonce, bytes: this.#write({ ...content, nonce }) };
    this.#keep(written);
    return written;
  }

  #find({ typeUrl, version, resources, removed }: Content): Entry | undefined {
    for (const entry of this.#entries) {
      const { content } = entry;
      if (content.typeUrl !== typeUrl || content.version !== version) continue;
      if (sameElements(content.resources, resources) && sameElements(content.removed, removed)) return entry;
    }
    return undefined;
  }

  #keep(entry: Entry): void {
    if (entry.bytes.length > maxBytes / 4) return;
    this.#entries.add(entry);
    this.#bytes += entry.bytes.length;
    for (const oldest of this.#entries) {
      if (this.#bytes <= maxBytes) break;
      this.#entries.delete(oldest);
      this.#bytes -= oldest.bytes.length;
    }
  }

  #keepForNow(): void {
    this.#isUsed = true;
    this.#timer ??= setInterval(() => this.#tick(), idleMs).unref();
  }

  #tick(): void {
    if (this.#isUsed) {
      this.#isUsed = false;
      return;
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#entries.clear();
    this.#bytes = 0;
  }
}
