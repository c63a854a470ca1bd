/** One source's page of metrics, within bounds of time and size. */

export interface Scrape {
  readonly body: Buffer;
  readonly contentType: string;
}

export interface ScrapeRequest {
  readonly headers: Readonly<Record<string, string>>;
  /** Until the page has ended. */
  readonly timeoutMs: number;
}

/** Rejects when there is no whole page: no answer in time, another status than 200, more than `maxBytes`. */
export async function scrape(url: string, request: ScrapeRequest, maxBytes: number): Promise<Scrape> {
  const { contentType, chunks } = await openScrape(url, request);
  const all: Uint8Array[] = [];
  let bytes = 0;
  // Counted as it comes, and after decompression: leaving the loop closes the connection.
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    all.push(chunk);
  }
  return { body: Buffer.concat(all), contentType };
}

export interface OpenScrape {
  readonly contentType: string;
  /** No faster than they are taken. Rejects when the page breaks off or takes too long; to leave early closes the connection. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** Resolves when the answer begins. Rejects when there is none in time, or none with status 200. */
export async function openScrape(url: string, { headers, timeoutMs }: ScrapeRequest): Promise<OpenScrape> {
  const answer = await fetch(url, { headers, redirect: "error", signal: AbortSignal.timeout(timeoutMs) });
  if (answer.status !== 200) {
    await answer.body?.cancel();
    throw new Error(`status ${answer.status}`);
  }
  return { contentType: answer.headers.get("content-type") ?? "", chunks: answer.body ?? none() };
}

async function* none(): AsyncGenerator<Uint8Array, void> {}
