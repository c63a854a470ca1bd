/** A page of metrics to whoever scrapes: a short one whole, a long one as it comes, packed if that is wished for. */
import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { createGzip, gzip } from "node:zlib";

/** Below that, packing is not worth it. */
const leastPacked = 1024;
/** Up to that a page is sent whole. */
const wholeBytes = 64 * 1024;
/** Nobody waits that long for metrics, and there are only so many scrapes at a time. */
const timeoutMs = 60_000;
const options = { level: 1 };

const pack = promisify(gzip);

/** Of an `accept-encoding` header. */
export function takesGzip(header: string | string[] | undefined): boolean {
  return /(?:^|,)\s*gzip\s*(?:,|$|;\s*q=(?!0(?:\.0*)?\s*(?:,|$)))/.test(String(header ?? ""));
}

/** Resolves when all is sent, or when the client has gone: then `parts` is left. */
export async function sendPage(
  response: ServerResponse,
  contentType: string,
  parts: AsyncGenerator<Buffer, void>,
  mayPack: boolean,
): Promise<void> {
  const first: Buffer[] = [];
  let bytes = 0;
  let isWhole = false;
  while (!isWhole && bytes <= wholeBytes) {
    const { value, done } = await parts.next();
    if (done) isWhole = true;
    else {
      first.push(value);
      bytes += value.length;
    }
  }
  const isPacked = mayPack && bytes >= leastPacked;
  const headers = { "content-type": contentType, vary: "accept-encoding", ...(isPacked ? { "content-encoding": "gzip" } : {}) };
  if (isWhole) {
    const body = isPacked ? await pack(Buffer.concat(first), options) : Buffer.concat(first);
    response.writeHead(200, { ...headers, "content-length": body.length }).end(body);
    return;
  }
  response.writeHead(200, headers);
  const all = async function* () {
    yield* first;
    yield* parts;
  };
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    await (isPacked ? pipeline(all, createGzip(options), response, { signal }) : pipeline(all, response, { signal }));
  } catch (error) {
    // The client has gone, or takes nothing.
    const { code, name } = error as NodeJS.ErrnoException;
    if (code !== "ERR_STREAM_PREMATURE_CLOSE" && name !== "AbortError" && name !== "TimeoutError") throw error;
  } finally {
    await parts.return();
  }
}
