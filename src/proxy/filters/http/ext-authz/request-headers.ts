/** The request's headers as an authorizer sees them. */
import type { HeaderList, StreamInfo } from "../../../stream-info.ts";

/** Whether an authorizer sees a header of that name, which is in lower case. */
export type HeaderFilter = (name: string) => boolean;

/** Whether the body in the question is only its beginning. Clients can't set it. */
export const partialBodyHeader = "x-envoy-auth-partial-body";

/** Repeated ones become one, with commas. `withLength`: also that of the body, where the question has none of its own. */
export function collectHeaders({ requestHeaders }: StreamInfo, isWanted: HeaderFilter, withLength: boolean): HeaderList {
  const found: HeaderList = [];
  for (let i = 0; i < requestHeaders.length; i += 2) {
    const name = requestHeaders[i]!;
    if (name === partialBodyHeader || (name === "content-length" && !withLength) || !isWanted(name)) continue;
    const value = requestHeaders[i + 1]!;
    const at = indexOf(found, name);
    if (at < 0) found.push(name, value);
    else found[at + 1] += `,${value}`;
  }
  return found;
}

function indexOf(headers: HeaderList, name: string): number {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return i;
  return -1;
}
