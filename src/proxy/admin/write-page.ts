/**
 * A page of any length, written while it is made: as much at a time as takes some milliseconds, and no more than the client takes. The main
 * thread, which writes it, has others to serve as well: probes, discovery, checks of endpoints.
 */
import type { Writable } from "node:stream";
import { Turns } from "../../lib/turns.ts";

/** Of all pages that are being written. */
const turnMs = 8;
const turns = new Turns(turnMs);
/** Characters; more is not put together for one write. */
const writeLength = 64 * 1024;

/** Resolves when the last piece is written, or when `out` is closed: then no more is made. Rejects with what making a piece throws. */
export async function writePage(out: Writable, pieces: Iterator<string, void>): Promise<void> {
  try {
    for (let isLast = false; !isLast && !out.closed; ) {
      const next = await some(pieces);
      isLast = next.isLast;
      // The bytes, because a string's length in them would be counted first, and it is encoded again when it is sent.
      if (next.text !== "" && !out.closed && !out.write(Buffer.from(next.text))) await isWanted(out);
    }
    out.end();
  } finally {
    pieces.return?.();
  }
}

/** All of what takes long to be made; others have their turn meanwhile. */
export function collected<T>(items: Iterable<T>): Promise<T[]> {
  const made = items[Symbol.iterator]();
  const all: T[] = [];
  return new Promise((resolve, reject) => {
    const work = () => {
      const end = performance.now() + turnMs;
      try {
        do {
          const { value, done } = made.next();
          if (done) return resolve(all);
          all.push(value);
        } while (performance.now() < end);
        turns.add(work);
      } catch (error) {
        reject(error);
      }
    };
    turns.add(work);
  });
}

interface Written {
  readonly text: string;
  readonly isLast: boolean;
}

/** In a turn of the event loop that is yet to come. */
function some(pieces: Iterator<string, void>): Promise<Written> {
  return new Promise((resolve, reject) => {
    turns.add(() => {
      const end = performance.now() + turnMs;
      let text = "";
      try {
        do {
          const { value, done } = pieces.next();
          if (done) return resolve({ text, isLast: true });
          text += value;
        } while (text.length < writeLength && performance.now() < end);
        resolve({ text, isLast: false });
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** Or closed, which ends the wait as well. */
function isWanted(out: Writable): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      out.off("drain", end).off("close", end);
      resolve();
    };
    out.on("drain", end).on("close", end);
  });
}
