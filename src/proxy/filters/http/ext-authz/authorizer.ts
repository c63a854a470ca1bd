/** What the filter asks and what it hears, whether by HTTP or by gRPC. */
import type { HttpStream } from "../../../http/http-stream.ts";
import type { HeaderList } from "../../../stream-info.ts";
import type { AsyncCall } from "../../../upstream/async-client.ts";

export interface Question {
  readonly stream: HttpStream;
  /** What was buffered of the request's body; null where it isn't part of the question. */
  readonly body: Buffer | null;
  readonly bodyIsPartial: boolean;
  /** `context_extensions` of the route. */
  readonly contextExtensions: { readonly [key: string]: string };
}

/** How a header changes a message that has or hasn't one of its name. */
export interface HeaderChange {
  readonly action: "set" | "add" | "addIfAbsent" | "setIfPresent" | "appendIfPresent";
  readonly name: string;
  readonly value: string;
}

export interface Allowed {
  readonly kind: "allowed";
  readonly requestHeaders: readonly HeaderChange[];
  /** Names in lower case. */
  readonly requestHeadersToRemove: readonly string[];
  readonly responseHeaders: readonly HeaderChange[];
  readonly queryToSet: readonly (readonly [key: string, value: string])[];
  readonly queryToRemove: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>> | null;
}

export interface Denied {
  readonly kind: "denied";
  readonly status: number;
  readonly headers: HeaderList;
  /** latin1 */
  readonly body: string;
  readonly metadata: Readonly<Record<string, unknown>> | null;
}

/** `failed`: nobody answered, or not what an authorizer answers. */
export type Verdict = Allowed | Denied | { readonly kind: "failed" };

export interface Authorizer {
  /** `done` is called once, never from within `ask`, unless the call is cancelled before. */
  ask(question: Question, done: (verdict: Verdict) => void): AsyncCall;
}
