/** What a path of the admin interface is: one object, one file or a group of like ones, one line in index.ts. */
import type { ProxyServer } from "../server.ts";

export interface AdminRequest {
  readonly path: string;
  readonly query: URLSearchParams;
  /** All there are, for the list of them. */
  readonly handlers: readonly AdminHandler[];
}

export interface AdminResponse {
  /** Default 200. */
  readonly status?: number;
  /** Default `text`; `plain` is text without a charset. */
  readonly type?: "text" | "plain" | "json" | "html";
  /** A page that may be long comes in pieces, and is written while it is made. */
  readonly body: string | Iterator<string, void>;
}

export interface AdminHandler {
  readonly path: string;
  readonly help: string;
  /** Changes something: POST only. */
  readonly mutates?: true;
  /** Name and help of each query parameter. */
  readonly params?: readonly (readonly [name: string, help: string])[];
  handle(server: ProxyServer, request: AdminRequest): AdminResponse | Promise<AdminResponse>;
}

export const ok: AdminResponse = { body: "OK\n" };

/** A flag is given by its name alone or with any value. */
export function isSet(query: URLSearchParams, name: string): boolean {
  return query.has(name);
}
