/** The store as the API's verbs use it: its refusals become answers. */
import type { Kind } from "../../api/kinds/kind.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { planDelete, planPut } from "../../config/plan-write.ts";
import { type Precondition, StoreError } from "../../config/store.ts";
import type { ApiContext } from "./context.ts";
import { notFound, objectError } from "./resources.ts";
import { ApiError } from "./status.ts";

/** Throws ApiError 404. */
export function getObject({ store }: ApiContext, kind: Kind, namespace: string, name: string): ConfigObject {
  const found = store.get({ kind: kind.kind, namespace, name }) as ConfigObject | undefined;
  if (!found) throw notFound(kind, name);
  return found;
}

/** Writes, or with `isDryRun` only says what would be written. */
export async function putObject(
  { store }: ApiContext,
  kind: Kind,
  object: ConfigObject,
  precondition: Precondition | undefined,
  isDryRun: boolean,
): Promise<ConfigObject> {
  const { namespace, name } = object.metadata;
  const key = { kind: kind.kind, namespace, name };
  try {
    if (!isDryRun) return await store.put(object, precondition);
    const stored = store.get(key) as ConfigObject | undefined;
    refuseFileObject(kind, stored);
    return planPut(object, key, stored, precondition, store.revision, Date.now()).result;
  } catch (error) {
    throw toApiError(error, kind, name);
  }
}

/** `stored` is what is to be deleted: what has become of it meanwhile is not. */
export async function removeObject({ store }: ApiContext, kind: Kind, stored: ConfigObject, isDryRun: boolean): Promise<void> {
  const { namespace, name, resourceVersion } = stored.metadata;
  const key = { kind: kind.kind, namespace, name };
  try {
    refuseFileObject(kind, stored);
    if (isDryRun) planDelete(key, stored, undefined);
    else await store.delete(key, { resourceVersion });
  } catch (error) {
    throw toApiError(error, kind, name);
  }
}

/** What stands in a file is that file's owner's to change. Throws ApiError 403 that names it. */
export function refuseFileObject(kind: Kind, stored: ConfigObject | undefined): void {
  if (!stored?.position) return;
  const { file, line } = stored.position;
  throw objectError(403, kind, stored.metadata.name, `is forbidden: it is written in ${file}:${line} and is to be edited there`);
}

function toApiError(error: unknown, kind: Kind, name: string): unknown {
  if (!(error instanceof StoreError)) return error;
  switch (error.code) {
    case "conflict":
      return new ApiError(
        409,
        `Operation cannot be fulfilled on ${kind.plural}${kind.group ? `.${kind.group}` : ""} ${JSON.stringify(name)}: the object has been modified; please apply your changes to the latest version and try again`,
        { details: { name, group: kind.group || undefined, kind: kind.plural }, cause: error },
      );
    case "exists":
      return objectError(409, kind, name, "already exists", { reason: "AlreadyExists" });
    case "not-found":
      return notFound(kind, name);
    case "read-only":
      return objectError(403, kind, name, `is forbidden: ${error.message}`);
    case "expired":
      return new ApiError(410, error.message, { cause: error });
    case "unavailable":
      return new ApiError(503, error.message, { cause: error });
    default:
      return error.code satisfies never;
  }
}
