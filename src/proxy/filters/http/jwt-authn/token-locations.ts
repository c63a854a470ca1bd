/**
 * Where in a request tokens are looked for: headers, query parameters, cookies. Several providers may name the same place; then any
 * of their issuers may have made the token that is found there.
 */
import type { JwtProvider } from "../../../../api/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { cookieValue } from "../../../http/cookies.ts";
import { removeHeader } from "../../../http/header-list.ts";
import type { HeaderList, StreamInfo } from "../../../stream-info.ts";

export interface FoundToken {
  readonly token: string;
  readonly place: Place;
}

/** One place, and who may be the issuer of what is found in it. */
export interface Place {
  readonly kind: "header" | "parameter" | "cookie";
  readonly name: string;
  /** Of headers: where the token begins, "Bearer " for one. */
  readonly prefix: string;
  /** null: any. */
  readonly issuers: ReadonlySet<string> | null;
}

export interface TokenLocations {
  readonly headers: readonly Place[];
  readonly parameters: readonly Place[];
  readonly cookies: readonly Place[];
}

type Provider = Pick<JwtProvider, "issuer" | "fromHeaders" | "fromParams" | "fromCookies">;

/** In the order in which Envoy looks: by name within each kind. */
export function compileTokenLocations(providers: readonly Provider[]): TokenLocations {
  const places = { header: new Map<string, Place>(), parameter: new Map<string, Place>(), cookie: new Map<string, Place>() };
  const add = (kind: Place["kind"], name: string, prefix: string, issuer: string) => {
    const key = `${name}\0${prefix}`;
    const known = places[kind].get(key);
    const issuers = issuer === "" || known?.issuers === null ? null : new Set([...(known?.issuers ?? []), issuer]);
    places[kind].set(key, { kind, name, prefix, issuers });
  };
  for (const { issuer, fromHeaders, fromParams, fromCookies } of providers) {
    for (const { name, valuePrefix } of fromHeaders) add("header", name.toLowerCase(), valuePrefix, issuer);
    for (const name of fromParams) add("parameter", name, "", issuer);
    for (const name of fromCookies) add("cookie", name, "", issuer);
    if (fromHeaders.length + fromParams.length + fromCookies.length > 0) continue;
    add("header", "authorization", "Bearer ", issuer);
    add("parameter", "access_token", "", issuer);
  }
  const sorted = (found: ReadonlyMap<string, Place>) =>
    [...found.values()].sort((a, b) => (a.name + a.prefix < b.name + b.prefix ? -1 : 1));
  return { headers: sorted(places.header), parameters: sorted(places.parameter), cookies: sorted(places.cookie) };
}

/** Hot: allocates only for what is found, but for the list itself. */
export function findTokens({ headers, parameters, cookies }: TokenLocations, info: StreamInfo): readonly FoundToken[] {
  const found: FoundToken[] = [];
  for (const place of headers) findInHeaders(place, info.requestHeaders, found);
  const query = parameters.length === 0 ? -1 : info.path.indexOf("?");
  if (query >= 0) {
    const text = info.path.slice(query + 1);
    for (const place of parameters) {
      const token = parameter(text, place.name);
      if (token !== null) found.push({ token, place });
    }
  }
  for (const place of cookies) {
    const token = cookieValue(info.requestHeaders, place.name);
    if (token !== null) found.push({ token, place });
  }
  return found;
}

function findInHeaders(place: Place, headers: HeaderList, found: FoundToken[]): void {
  if (place.name === "authorization") {
    // Lines of this name are one to Envoy, whose filters see them joined.
    const line = joined(headers, place.name);
    const token = line === undefined ? null : tokenIn(line, place.prefix);
    if (token !== null) found.push({ token, place });
    return;
  }
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== place.name) continue;
    const token = tokenIn(headers[i + 1]!, place.prefix);
    if (token !== null) found.push({ token, place });
  }
}

function joined(headers: HeaderList, name: string): string | undefined {
  let line: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === name) line = line === undefined ? headers[i + 1]! : `${line},${headers[i + 1]!}`;
  }
  return line;
}

/** What follows the prefix, wherever that stands in the value, from the first character that a token may have. */
function tokenIn(value: string, prefix: string): string | null {
  if (prefix === "") return value;
  const at = value.indexOf(prefix);
  if (at < 0) return null;
  const rest = value.slice(at + prefix.length);
  const begin = rest.search(/[A-Za-z0-9_.-]/);
  return begin < 0 ? value : rest.slice(begin);
}

/** The first of that name, with %XX undone in both. */
function parameter(query: string, name: string): string | null {
  for (const part of query.split("&")) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals);
    if (undone(key) === name) return equals < 0 ? "" : undone(part.slice(equals + 1));
  }
  return null;
}

function undone(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/**
 * Takes a token out of the request; from cookies it isn't taken, as in Envoy. Of a query only the parameter itself goes: Envoy writes the
 * others anew, sorted and with their %XX undone, which makes another request of many a path.
 */
export function removeToken({ kind, name }: Place, info: StreamInfo): void {
  if (kind === "header") removeHeader(info.requestHeaders, name);
  if (kind !== "parameter") return;
  const query = info.path.indexOf("?");
  if (query < 0) return;
  const kept = info.path
    .slice(query + 1)
    .split("&")
    .filter((part) => undone(part.split("=", 1)[0]!) !== name);
  info.path = info.path.slice(0, query) + (kept.length === 0 ? "" : `?${kept.join("&")}`);
}
