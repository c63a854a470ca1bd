/** What an authorizer changes in the messages that it lets pass. */

import { hasHeader, removeHeader, setHeader } from "../../../http/header-list.ts";
import type { RequestInfo } from "../../../http/request-info.ts";
import type { HeaderList } from "../../../stream-info.ts";
import type { Allowed, HeaderChange } from "./authorizer.ts";

/** False: nothing was to be changed. */
export function applyToRequest(verdict: Allowed, info: RequestInfo): boolean {
  const { requestHeaders, requestHeadersToRemove, queryToSet, queryToRemove } = verdict;
  for (const change of requestHeaders) if (!setPseudoHeader(change, info)) applyChange(change, info.requestHeaders);
  for (const name of requestHeadersToRemove) {
    if (!name.startsWith(":") && name !== "host") removeHeader(info.requestHeaders, name);
  }
  const changesQuery = queryToSet.length > 0 || queryToRemove.length > 0;
  if (changesQuery) info.path = withQuery(info.path, queryToSet, queryToRemove);
  return changesQuery || requestHeaders.length > 0 || requestHeadersToRemove.length > 0;
}

export function applyToResponse(changes: readonly HeaderChange[], headers: HeaderList): void {
  for (const change of changes) if (!change.name.startsWith(":")) applyChange(change, headers);
}

/** They are fields of the stream; true: it was one. */
function setPseudoHeader({ name, value }: HeaderChange, info: RequestInfo): boolean {
  switch (name) {
    case ":path":
      info.path = value;
      return true;
    case ":method":
      info.method = value;
      return true;
    case ":authority":
    case "host":
      info.authority = value;
      return true;
    default:
      return name.startsWith(":");
  }
}

function applyChange({ action, name, value }: HeaderChange, headers: HeaderList): void {
  switch (action) {
    case "set":
      removeHeader(headers, name);
      headers.push(name, value);
      return;
    case "add":
      headers.push(name, value);
      return;
    case "addIfAbsent":
      if (!hasHeader(headers, name)) headers.push(name, value);
      return;
    case "setIfPresent":
      if (hasHeader(headers, name)) setHeader(headers, name, value);
      return;
    case "appendIfPresent":
      appendToPresent(headers, name, value);
      return;
    default:
      action satisfies never;
  }
}

/** To the first of that name, with a comma; there is none: nothing happens. */
function appendToPresent(headers: HeaderList, name: string, value: string): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== name) continue;
    headers[i + 1] = headers[i + 1] === "" ? value : `${headers[i + 1]!},${value}`;
    return;
  }
}

/** Parameters are compared and written as they are, not decoded; what stays keeps its place. */
function withQuery(path: string, toSet: Allowed["queryToSet"], toRemove: readonly string[]): string {
  const at = path.indexOf("?");
  const pairs =
    at < 0
      ? []
      : path
          .slice(at + 1)
          .split("&")
          .filter((pair) => pair !== "");
  const keyOf = (pair: string) => pair.split("=", 1)[0]!;
  let left = pairs;
  for (const [key, value] of toSet) {
    const first = left.findIndex((pair) => keyOf(pair) === key);
    const written = `${key}=${value}`;
    if (first < 0) left = [...left, written];
    else left = left.flatMap((pair, index) => (keyOf(pair) !== key ? pair : index === first ? written : []));
  }
  left = left.filter((pair) => !toRemove.includes(keyOf(pair)));
  const base = at < 0 ? path : path.slice(0, at);
  return left.length === 0 ? base : `${base}?${left.join("&")}`;
}
