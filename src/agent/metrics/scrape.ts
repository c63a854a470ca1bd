/** One source's page of metrics, within bounds of time and size. */

export interface Scrape {
  readonly body: Buffer;
  readonly contentType: string;
}

export interface ScrapeOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Rejects when there is no whole page: no answer in time, another status than 200, too much of it. */
export async function scrape(url: string, { headers, timeoutMs, maxBytes }: ScrapeOptions): Promise<Scrape> {
  const answer = await fetch(url, { headers, redirect: "error", signal: AbortSignal.timeout(timeoutMs) });
  if (answer.status !== 200) {
    await answer.body?.cancel();
    throw new Error(`status ${answer.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Counted as it comes, and after decompression: leaving the loop closes the connection.
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return { body: Buffer.concat(chunks), contentType: answer.headers.get("content-type") ?? "" };
}
