/**
 * Headers as flat arrays [name, value, name, value, ...] with names in lower case; see StreamInfo. A message has some ten
 * headers, where walking an array beats every map. The pseudo headers and Host are fields of the stream, never in the list.
 */
import type { HeaderList } from "../stream-info.ts";

/** The first value of that name, or undefined. Hot. */
export function getHeader(headers: HeaderList, name: string): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1];
  return undefined;
}

export function hasHeader(headers: HeaderList, name: string): boolean {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return true;
  return false;
}

/** Replaces the first value in its place and drops further ones, or adds at the end. */
export function setHeader(headers: HeaderList, name: string, value: string): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === name) {
      headers[i + 1] = value;
      removeHeaderFrom(headers, name, i + 2);
      return;
    }
  }
  headers.push(name, value);
}

export function removeHeader(headers: HeaderList, name: string): boolean {
  return removeHeaderFrom(headers, name, 0);
}

function removeHeaderFrom(headers: HeaderList, name: string, from: number): boolean {
  let kept = from;
  for (let i = from; i < headers.length; i += 2) {
    if (headers[i] === name) continue;
    if (kept !== i) {
      headers[kept] = headers[i]!;
      headers[kept + 1] = headers[i + 1]!;
    }
    kept += 2;
  }
  if (kept === headers.length) return false;
  headers.length = kept;
  return true;
}

/** Drops every header that `unwanted` holds, in one walk. */
export function removeHeaders(headers: HeaderList, unwanted: ReadonlySet<string>): void {
  let kept = 0;
  for (let i = 0; i < headers.length; i += 2) {
    if (unwanted.has(headers[i]!)) continue;
    if (kept !== i) {
      headers[kept] = headers[i]!;
      headers[kept + 1] = headers[i + 1]!;
    }
    kept += 2;
  }
  headers.length = kept;
}
