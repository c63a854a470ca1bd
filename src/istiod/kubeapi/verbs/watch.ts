/**
 * `watch`: changes as lines of JSON, from a revision on or behind the present state, until a time is over or the client leaves. An object
 * that comes to match the selectors is ADDED to a client, one that leaves them DELETED.
 */
import { randomInt } from "node:crypto";
import type { ServerResponse } from "node:http";
import { type ConfigEvent, StoreError } from "../../../config/store.ts";
import type { ApiContext, ApiRequest } from "../context.ts";
import { type SharedEvent, type WatchEventType, watchLine } from "../object-events.ts";
import { type Presentation, presentObject } from "../present.ts";
import type { ObjectPath } from "../request-path.ts";
import { ApiError } from "../status.ts";
import { tableOf } from "../tables/table.ts";
import { numberOf, presentationOf } from "./read.ts";
import { type Selection, selectionOf, selectObjects } from "./selection.ts";

const bookmarkMs = 60_000;
/** A client that doesn't read may hold up so much; then it is cut off and has to list anew. */
const maxUnreadBytes = 8 * 1024 * 1024;
/** Without `timeoutSeconds` a watch ends after this time at least, and twice that at most; Kubernetes' own numbers. */
const defaultTimeoutSeconds = 1800;
const maxTimeoutSeconds = 24 * 3600;

/** Writes the head and the lines. Throws ApiError before anything is written. */
export function watchObjects(context: ApiContext, path: ObjectPath, request: ApiRequest, response: ServerResponse): void {
  const { query } = request;
  const presentation = presentationOf(path, request);
  const selection = selectionOf(path, query);
  const from = numberOf(query, "resourceVersion");
  const timeoutSeconds = numberOf(query, "timeoutSeconds") || defaultTimeoutSeconds + randomInt(defaultTimeoutSeconds);
  const sendsInitial = query.get("sendInitialEvents") === "true";
  if (sendsInitial && query.get("resourceVersionMatch") !== "NotOlderThan")
    throw new ApiError(422, "sendInitialEvents: Forbidden: is for use with resourceVersionMatch=NotOlderThan");
  response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
  // Without this nothing is sent before the first change, and clients wait for the head.
  response.flushHeaders();
  const watch = new Watch(context, selection, presentation, response);
  watch.start(sendsInitial || from === 0 ? undefined : from, { isListed: sendsInitial });
  watch.endAfter(Math.min(timeoutSeconds, maxTimeoutSeconds) * 1000);
  if (query.get("allowWatchBookmarks") === "true") watch.bookmarkEvery(bookmarkMs);
}

class Watch {
  readonly #context: ApiContext;
  readonly #selection: Selection;
  readonly #presentation: Presentation;
  readonly #response: ServerResponse;
  readonly #parts = new DisposableStack();
  /** Tables say their columns once. */
  #withColumns = true;

  constructor(context: ApiContext, selection: Selection, presentation: Presentation, response: ServerResponse) {
    this.#context = context;
    this.#selection = selection;
    this.#presentation = presentation;
    this.#response = response;
    response.once("close", () => this.#parts.dispose());
  }

  /** From a revision on, or behind the present objects; `isListed`: their end is marked. */
  start(from: number | undefined, { isListed }: { readonly isListed: boolean }): void {
    const { store, events } = this.#context;
    try {
      if (from === undefined) {
        for (const object of selectObjects(store, this.#selection))
          this.#write(watchLine("ADDED", presentObject(object, this.#presentation, this.#takeColumns())));
      }
      if (isListed) this.#bookmark({ "k8s.io/initial-events-end": "true" });
      const { kind } = this.#selection.path.resource.kind;
      this.#parts.use(events.subscribe(kind, from ?? store.revision, (event) => this.#onEvent(event)));
    } catch (error) {
      const expired = error instanceof StoreError && error.code === "expired";
      if (!expired) throw error;
      this.#write(watchLine("ERROR", new ApiError(410, `too old resource version: ${from} (${store.revision})`).toStatus()));
      this.#response.end();
    }
  }

  endAfter(timeoutMs: number): void {
    this.#parts.adopt(setTimeout(() => this.#response.end(), timeoutMs).unref(), (timer) => clearTimeout(timer));
  }

  bookmarkEvery(periodMs: number): void {
    this.#parts.adopt(setInterval(() => this.#bookmark({}), periodMs).unref(), (timer) => clearInterval(timer));
  }

  #onEvent(event: SharedEvent): void {
    const type = this.#typeOf(event.change);
    if (type) this.#write(event.line(type, this.#presentation, this.#takeColumns()));
  }

  /** Undefined: the change is none of this client's business. */
  #typeOf({ type, object, previous }: ConfigEvent): WatchEventType | undefined {
    const did = previous !== undefined && this.#selection.matches(previous);
    const does = type !== "deleted" && this.#selection.matches(object);
    if (does) return did ? "MODIFIED" : "ADDED";
    return did ? "DELETED" : undefined;
  }

  #bookmark(annotations: Readonly<Record<string, string>>): void {
    const { resource, form } = this.#presentation;
    const metadata = {
      resourceVersion: String(this.#context.store.revision),
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    };
    const object =
      form === "Table"
        ? tableOf(
            [{ cells: [], object: { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata } }],
            resource.kind,
            metadata,
            this.#takeColumns(),
          )
        : form === "PartialObjectMetadata"
          ? { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata }
          : { kind: resource.kind.kind, apiVersion: resource.apiVersion, metadata };
    this.#write(watchLine("BOOKMARK", object));
  }

  #takeColumns(): boolean {
    const { form } = this.#presentation;
    const isFirst = this.#withColumns && form === "Table";
    this.#withColumns = false;
    return isFirst;
  }

  #write(line: Buffer): void {
    const { writableLength, destroyed } = this.#response;
    if (destroyed) return;
    if (writableLength > maxUnreadBytes) this.#response.destroy();
    else this.#response.write(line);
  }
}
