/**
 * Another protocol than HTTP on a stream (RFC 8441): within the proxy it is asked for and agreed to as on HTTP/1.1, on the wire by CONNECT with
 * `:protocol` and a 200.
 */
import type { HeaderList } from "../stream-info.ts";

/** What belongs to HTTP/1.1 alone. */
export function withoutUpgrade(headers: HeaderList): HeaderList {
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name === "connection" || name === "upgrade" || (name === "content-length" && headers[i + 1] === "0")) continue;
    kept.push(name, headers[i + 1]!);
  }
  return kept;
}
