/** `get` and `list`. */
import { negotiateForm } from "../accept.ts";
import type { Answer, ApiContext, ApiRequest } from "../context.ts";
import { type Presentation, presentList, presentObject } from "../present.ts";
import type { ObjectPath } from "../request-path.ts";
import { ApiError } from "../status.ts";
import { getObject } from "../store-access.ts";
import type { RowObject } from "../tables/table.ts";
import { scaleOf } from "./scale.ts";
import { selectionOf, selectObjects } from "./selection.ts";

/** Throws ApiError when no form is served that the caller takes. */
export function presentationOf({ resource }: ObjectPath, { accept, query }: ApiRequest): Presentation {
  return { resource, form: negotiateForm(accept), rowObject: rowObjectOf(query.get("includeObject") ?? "") };
}

function rowObjectOf(includeObject: string): RowObject {
  switch (includeObject) {
    case "":
    case "Metadata":
      return "Metadata";
    case "None":
    case "Object":
      return includeObject;
    default:
      throw new ApiError(400, `includeObject: unsupported value ${JSON.stringify(includeObject)}`);
  }
}

export function readObject(context: ApiContext, path: ObjectPath, request: ApiRequest): Answer {
  const { resource, namespace, name, subresource } = path;
  const found = getObject(context, resource.kind, namespace, name);
  if (subresource === "scale") return { code: 200, body: scaleOf(found) };
  return { code: 200, body: presentObject(found, presentationOf(path, request)) };
}

export function listObjects({ store, pages }: ApiContext, path: ObjectPath, request: ApiRequest): Answer {
  const { query } = request;
  const presentation = presentationOf(path, request);
  const selection = selectionOf(path, query);
  const limit = numberOf(query, "limit");
  const token = query.get("continue") ?? "";
  if (token === "") checkResourceVersion(query, store.revision);
  else if ((query.get("resourceVersion") ?? "0") !== "0")
    throw new ApiError(400, "specifying resource version is not allowed when using continue");
  const page =
    token === ""
      ? pages.first(selectObjects(store, selection), selection.text, store.revision, limit)
      : pages.next(token, selection.text, limit);
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.next === undefined ? {} : { continue: page.next }),
    ...(page.next === undefined || selection.isPartial ? {} : { remainingItemCount: page.remaining }),
  };
  return { code: 200, body: presentList(page.objects, presentation, metadata) };
}

/** 0 when it isn't there. Throws ApiError for what is no such number. */
export function numberOf(query: URLSearchParams, name: string): number {
  const text = query.get(name) || "0";
  if (!/^\d{1,16}$/.test(text)) throw new ApiError(400, `${name}: ${JSON.stringify(text)} is not a number`);
  return Number(text);
}

/** Only the present state can be listed. Throws ApiError when that is not what is asked for. */
function checkResourceVersion(query: URLSearchParams, revision: number): void {
  const wanted = numberOf(query, "resourceVersion");
  if (wanted > revision) throw tooLargeVersion(wanted, revision);
  const match = query.get("resourceVersionMatch") ?? "";
  if (match === "Exact" && wanted !== revision)
    throw new ApiError(410, `The provided resource version is too old: ${wanted}, current: ${revision}`);
  if (!["", "Exact", "NotOlderThan"].includes(match))
    throw new ApiError(400, `resourceVersionMatch: unsupported value ${JSON.stringify(match)}`);
}

export function tooLargeVersion(wanted: number, revision: number): ApiError {
  return new ApiError(504, `Too large resource version: ${wanted}, current: ${revision}`, {
    details: { causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }], retryAfterSeconds: 1 },
  });
}
