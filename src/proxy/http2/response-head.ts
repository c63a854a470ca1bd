/** What a response begins with, and what RFC 9113 (8.1 to 8.3) does not let it have. */
import type { HeaderList } from "../stream-info.ts";
import { contentLengthOf, isField } from "./request-head.ts";

export interface ResponseHead {
  readonly status: number;
  /** Without pseudo-headers. */
  readonly headers: HeaderList;
  /** -1: none. */
  readonly contentLength: number;
}

/** null for a malformed response. Hot. */
export function readResponseHead(list: HeaderList): ResponseHead | null {
  if (list[0] !== ":status") return null;
  const written = list[1]!;
  const status = Number(written);
  // Another protocol than HTTP is not switched to on HTTP/2.
  if (written.length !== 3 || !(status >= 100 && status <= 999) || status === 101) return null;
  let contentLength = -1;
  const headers: string[] = [];
  for (let i = 2; i < list.length; i += 2) {
    const name = list[i]!;
    const value = list[i + 1]!;
    if (!isField(name, value)) return null;
    if (name === "content-length") {
      const length = contentLengthOf(value);
      if (length < 0 || (contentLength >= 0 && contentLength !== length)) return null;
      if (contentLength >= 0) continue;
      contentLength = length;
    }
    headers.push(name, value);
  }
  return { status, headers, contentLength };
}
