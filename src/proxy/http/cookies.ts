/** Cookies of a request, and what asks for one to be kept. */
import type { HeaderList } from "../stream-info.ts";

/** The first of that name; quotes around a value are none of it. null: there is none. */
export function cookieValue(headers: HeaderList, name: string): string | null {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== "cookie") continue;
    for (const part of headers[i + 1]!.split(";")) {
      const equals = part.indexOf("=");
      if (equals < 0 || part.slice(0, equals).replace(/^ +/, "") !== name) continue;
      const value = part.slice(equals + 1);
      return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
    }
  }
  return null;
}

export interface CookieSettings {
  readonly name: string;
  /** "": that of the request. */
  readonly path: string;
  /** Seconds; 0: as long as the browser runs. */
  readonly maxAge: number;
  readonly attributes: readonly { readonly name: string; readonly value: string }[];
}

/** Value of a `set-cookie` header, in Envoy's order. */
export function setCookie({ name, path, maxAge, attributes }: CookieSettings, value: string): string {
  return [
    `${name}="${value}"`,
    ...(maxAge === 0 ? [] : [`Max-Age=${maxAge}`]),
    ...(path === "" ? [] : [`Path=${path}`]),
    ...attributes.map((attribute) => (attribute.value === "" ? attribute.name : `${attribute.name}=${attribute.value}`)),
    "HttpOnly",
  ].join("; ");
}
