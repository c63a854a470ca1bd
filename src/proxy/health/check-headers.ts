/** Headers that a check adds, as flat list: their values may be access log formats. */
import { RequestInfo } from "../http/request-info.ts";
import { applyHeaderEdits, type HeaderEdit } from "../router/header-mutation.ts";
import type { ConnectionInfo, HeaderList } from "../stream-info.ts";

const connection: ConnectionInfo = {
  id: 0,
  remoteAddress: "127.0.0.1:0",
  directRemoteAddress: "127.0.0.1:0",
  localAddress: "127.0.0.1:0",
  directLocalAddress: "127.0.0.1:0",
  requestedServerName: "",
  filterChainName: "",
  tls: null,
  localCloseReason: "",
  transportFailureReason: "",
  terminationDetails: "",
  filterState: null,
};

export function editCheckHeaders(headers: HeaderList, edits: readonly HeaderEdit[], hostKey: string): HeaderList {
  if (edits.length === 0) return headers;
  const info = new RequestInfo(connection);
  info.upstreamHost = hostKey;
  applyHeaderEdits(edits, headers, info);
  return headers;
}

/** Of several values, all of them. */
export function asRecord(headers: HeaderList): Record<string, string | string[]> {
  const record: Record<string, string | string[]> = {};
  for (let i = 0; i < headers.length; i += 2) {
    const known = record[headers[i]!];
    record[headers[i]!] = known === undefined ? headers[i + 1]! : [known, headers[i + 1]!].flat();
  }
  return record;
}
