/** `delete`, of one object or of all that a selection has. */
import type { Kind } from "../../../api/kinds/kind.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { objectAt, textAt, textsAt } from "../../../api/kinds/raw-fields.ts";
import { isPlainObject } from "../../../api/schema/decode.ts";
import type { Raw } from "../admission/admit.ts";
import type { Answer, ApiContext, ApiRequest } from "../context.ts";
import { presentObject } from "../present.ts";
import type { ObjectPath } from "../request-path.ts";
import { objectError } from "../resources.ts";
import { ApiError, successStatus } from "../status.ts";
import { getObject, putObject, refuseFileObject, removeObject } from "../store-access.ts";
import { writeOptionsOf } from "../write-options.ts";
import { selectionOf, selectObjects } from "./selection.ts";

interface DeleteOptions {
  readonly isDryRun: boolean;
  readonly uid: string;
  readonly resourceVersion: string;
}

export async function deleteObject(context: ApiContext, path: ObjectPath, request: ApiRequest, body: unknown): Promise<Answer> {
  const options = deleteOptionsOf(request, body);
  const { resource, namespace, name } = path;
  const { kind } = resource;
  const stored = getObject(context, kind, namespace, name);
  const { uid, resourceVersion } = stored.metadata;
  if ((options.uid && options.uid !== uid) || (options.resourceVersion && options.resourceVersion !== resourceVersion))
    throw objectError(409, kind, name, "is not the object that the precondition names", { reason: "Conflict" });
  const left = await remove(context, kind, stored, options.isDryRun);
  if (left) return { code: 200, body: presentObject(left, { resource, form: "object", rowObject: "None" }) };
  return { code: 200, body: successStatus({ name, group: kind.group || undefined, kind: kind.plural, uid }) };
}

/** Objects of files stay; that there are such is told when the others are gone. */
export async function deleteCollection(context: ApiContext, path: ObjectPath, request: ApiRequest, body: unknown): Promise<Answer> {
  const { isDryRun } = deleteOptionsOf(request, body);
  const { kind } = path.resource;
  const kept: ApiError[] = [];
  const outcomes = await Promise.allSettled(
    selectObjects(context.store, selectionOf(path, request.query)).map((stored) => remove(context, kind, stored, isDryRun)),
  );
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled" || (outcome.reason instanceof ApiError && outcome.reason.code === 404)) continue;
    if (!(outcome.reason instanceof ApiError)) throw outcome.reason;
    kept.push(outcome.reason);
  }
  if (kept[0]) throw kept[0];
  return { code: 200, body: successStatus({ group: kind.group || undefined, kind: kind.plural }) };
}

/** Resolves with the object if it stays for a while: while finalizers hold it, or while a namespace's objects are deleted. */
async function remove(context: ApiContext, kind: Kind, stored: ConfigObject, isDryRun: boolean): Promise<ConfigObject | undefined> {
  refuseFileObject(kind, stored);
  if (kind.kind === "Namespace") refuseNamespaceWithFiles(context, kind, stored);
  const isHeld = kind.kind === "Namespace" || textsAt(stored.raw, "metadata", "finalizers").length > 0;
  if (!isHeld) {
    await removeObject(context, kind, stored, isDryRun);
    return undefined;
  }
  if (stored.metadata.deletionTimestamp !== undefined) return stored;
  const now = new Date();
  const deletionTimestamp = now.toISOString().replace(/\.\d+Z$/, "Z");
  const raw: Raw = { ...stored.raw, metadata: { ...objectAt(stored.raw, "metadata"), deletionTimestamp, deletionGracePeriodSeconds: 0 } };
  if (kind.kind === "Namespace") raw.status = { ...objectAt(raw, "status"), phase: "Terminating" };
  const marked = { ...stored, raw, metadata: { ...stored.metadata, deletionTimestamp: Math.floor(now.getTime() / 1000) * 1000 } };
  return await putObject(context, kind, marked, { resourceVersion: stored.metadata.resourceVersion }, isDryRun);
}

/** Kubernetes' own namespaces. */
const lasting: ReadonlySet<string> = new Set(["default", "kube-system", "kube-public", "kube-node-lease"]);

/** A namespace is gone when its objects are, and those of files never are. */
function refuseNamespaceWithFiles({ store }: ApiContext, kind: Kind, { metadata }: ConfigObject): void {
  const { name } = metadata;
  if (lasting.has(name)) throw objectError(403, kind, name, "is forbidden: this namespace may not be deleted");
  const written = store.list().find((object) => object.metadata.namespace === name && object.position);
  if (!written?.position) return;
  const { file, line } = written.position;
  throw objectError(
    409,
    kind,
    name,
    `can't be deleted: it holds ${written.kind} ${JSON.stringify(written.metadata.name)}, which is written in ${file}:${line}`,
    {
      reason: "Conflict",
    },
  );
}

function deleteOptionsOf(request: ApiRequest, body: unknown): DeleteOptions {
  if (body !== undefined && (!isPlainObject(body) || (body.kind !== undefined && body.kind !== "DeleteOptions")))
    throw new ApiError(400, "the body of a deletion holds DeleteOptions");
  const { isDryRun } = writeOptionsOf(request);
  const asked = isPlainObject(body) && Array.isArray(body.dryRun) ? body.dryRun : [];
  if (asked.some((value) => value !== "All")) throw new ApiError(400, 'dryRun: supported values: "All"');
  return {
    isDryRun: isDryRun || asked.length > 0,
    uid: textAt(body, "preconditions", "uid"),
    resourceVersion: textAt(body, "preconditions", "resourceVersion"),
  };
}
