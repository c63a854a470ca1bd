/** The pseudo-headers of a request, and what RFC 9113 (8.1 to 8.3) does not let a request have. */
import type { HeaderList } from "../stream-info.ts";

export interface RequestHead {
  method: string;
  /** "" where it has none, as CONNECT. */
  scheme: string;
  /** What a CONNECT asks to go on with on its stream (RFC 8441); "" as a rule. */
  protocol: string;
  path: string;
  authority: string;
  /** Without pseudo-headers, `host` and `te: trailers` as they were; crumbs of a cookie put together. */
  headers: HeaderList;
  /** -1: none. */
  contentLength: number;
  expect: string;
}

const connectionSpecific: ReadonlySet<string> = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
const nameToken = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const forbiddenInValue = /[\0\r\n]|^[ \t]|[ \t]$/;

/** null for a malformed request. Hot. */
export function readRequestHead(list: HeaderList): RequestHead | null {
  let method = "";
  let scheme = "";
  let protocol = "";
  let path: string | null = null;
  let authority: string | null = null;
  let host: string | null = null;
  let cookie: string | null = null;
  let contentLength = -1;
  let expect = "";
  let sawRegular = false;
  const headers: string[] = [];
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i]!;
    const value = list[i + 1]!;
    if (name.charCodeAt(0) === 58) {
      if (sawRegular || forbiddenInValue.test(value)) return null;
      if (name === ":method" && method === "" && value !== "") method = value;
      else if (name === ":scheme" && scheme === "" && value !== "") scheme = value.toLowerCase();
      else if (name === ":path" && path === null && value !== "") path = value;
      else if (name === ":authority" && authority === null) authority = value;
      else if (name === ":protocol" && protocol === "" && value !== "") protocol = value;
      else return null;
      continue;
    }
    sawRegular = true;
    if (!isField(name, value)) return null;
    switch (name) {
      case "host":
        if (host !== null) return null;
        host = value;
        continue;
      case "cookie":
        cookie = cookie === null ? value : `${cookie}; ${value}`;
        continue;
      case "content-length":
        if (contentLengthOf(value) < 0 || (contentLength >= 0 && contentLength !== Number(value))) return null;
        if (contentLength >= 0) continue;
        contentLength = Number(value);
        break;
      case "expect":
        expect = value;
        break;
    }
    headers.push(name, value);
  }
  if (method === "") return null;
  if (protocol !== "" && method !== "CONNECT") return null;
  if (method === "CONNECT" && protocol === "") {
    if (scheme !== "" || path !== null || !authority) return null;
  } else if (scheme === "" || path === null || !(path.charCodeAt(0) === 47 || (path === "*" && method === "OPTIONS"))) return null;
  if (cookie !== null) headers.push("cookie", cookie);
  // An empty authority is as none.
  return { method, scheme, protocol, path: path ?? "", authority: authority || host || "", headers, contentLength, expect };
}

/** Whether a list may be the end of a message. */
export function areTrailers(list: HeaderList): boolean {
  for (let i = 0; i < list.length; i += 2) {
    if (list[i]!.charCodeAt(0) === 58 || !isField(list[i]!, list[i + 1]!)) return false;
  }
  return true;
}

/** Negative for what is no length. */
export function contentLengthOf(value: string): number {
  return /^\d{1,15}$/.test(value) ? Number(value) : -1;
}

export function isField(name: string, value: string): boolean {
  if (!nameToken.test(name) || forbiddenInValue.test(value)) return false;
  return name === "te" ? value.toLowerCase() === "trailers" : !connectionSpecific.has(name);
}
