/** `update` (PUT), and what every change of a stored object goes through. */
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { objectAt, textAt, textsAt } from "../../../api/kinds/raw-fields.ts";
import { admit, type Raw, readSubmitted, withDefaults } from "../admission/admit.ts";
import { wantsAddress } from "../admission/cluster-addresses.ts";
import type { Answer, ApiContext, ApiRequest } from "../context.ts";
import { managedAfterUpdate } from "../managed-fields/field-managers.ts";
import { presentObject } from "../present.ts";
import type { ObjectPath } from "../request-path.ts";
import { invalid, objectError } from "../resources.ts";
import { getObject, putObject, refuseFileObject, removeObject } from "../store-access.ts";
import { isBuiltIn, typeOfKind } from "../types/object-types.ts";
import { type WriteOptions, writeOptionsOf } from "../write-options.ts";
import { addressFields, withManaged } from "./create.ts";
import { presentationOf } from "./read.ts";
import { scaleOf, withScale } from "./scale.ts";

export async function updateObject(context: ApiContext, path: ObjectPath, request: ApiRequest, body: unknown): Promise<Answer> {
  const options = writeOptionsOf(request);
  const { resource, namespace, name, subresource } = path;
  const stored = getObject(context, resource.kind, namespace, name);
  const isScale = subresource === "scale";
  const submitted = isScale ? withScale(stored, body) : readSubmitted(body, path, options, request.warnings);
  if (!isBuiltIn(resource.kind) && textAt(submitted, "metadata", "resourceVersion") === "")
    throw invalid(resource.kind, name, [{ field: "metadata.resourceVersion", message: "0x0: must be specified for an update" }]);
  const presentation = presentationOf(path, request);
  const changed = await change(context, path, stored, submitted, options, request.warnings);
  return { code: 200, body: isScale ? scaleOf(changed) : presentObject(changed, presentation) };
}

/**
 * Stores `submitted` in the place of `stored`, on the condition that this is what it takes the place of. Only the status is taken
 * of it where the path names that, and all but the status where the path names the object. Throws ApiError; 409 when the object has
 * changed meanwhile. `managedFields` are those of `submitted` when they are given.
 */
export async function change(
  context: ApiContext,
  path: ObjectPath,
  stored: ConfigObject,
  submitted: Raw,
  options: WriteOptions,
  warnings: string[],
  isApplied = false,
): Promise<ConfigObject> {
  const { resource, subresource } = path;
  const { kind } = resource;
  refuseFileObject(kind, stored);
  const wanted = objectAt(submitted, "metadata");
  const { uid, resourceVersion, name } = stored.metadata;
  if (textAt(wanted, "uid") !== "" && wanted.uid !== uid)
    throw objectError(409, kind, name, `is another object: its uid is ${uid}, not ${String(wanted.uid)}`, { reason: "Conflict" });

  const next = withSystemFields(
    subresource === "status" ? withStatusOf(stored, submitted) : withoutStatusOf(stored, submitted, path),
    stored,
  );
  const complete = withKeptAddress(withDefaults(next, resource), stored, context);
  const writer = { manager: options.manager, apiVersion: resource.apiVersion, subresource, nowMs: Date.now() };
  const managed = isApplied ? complete : withManaged(complete, managedAfterUpdate(stored.raw, complete, typeOfKind(kind), writer));
  const object = admit(managed, stored, resource, warnings);
  // Whoever names a version means that one; who does not means the one that was read here.
  const precondition = { resourceVersion: textAt(wanted, "resourceVersion") || resourceVersion };
  const written = await putObject(context, kind, object, precondition, options.isDryRun);
  if (
    written.metadata.deletionTimestamp !== undefined &&
    textsAt(written.raw, "metadata", "finalizers").length === 0 &&
    kind.kind !== "Namespace"
  ) {
    await removeObject(context, kind, written, options.isDryRun);
  }
  return written;
}

function withStatusOf({ raw }: ConfigObject, submitted: Raw): Raw {
  const { managedFields } = objectAt(submitted, "metadata");
  const metadata = { ...objectAt(raw, "metadata"), ...(managedFields === undefined ? {} : { managedFields }) };
  return { ...raw, apiVersion: submitted.apiVersion, metadata, status: submitted.status ?? {} };
}

function withoutStatusOf({ raw }: ConfigObject, submitted: Raw, { resource }: ObjectPath): Raw {
  if (!resource.kind.subresources.includes("status")) return submitted;
  const { status: _, ...rest } = submitted;
  return raw.status === undefined ? rest : { ...rest, status: raw.status };
}

const systemFields = [
  "uid",
  "creationTimestamp",
  "generation",
  "resourceVersion",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
] as const;

/** What the system has said of the object stays, and can't be said by others. */
function withSystemFields(raw: Raw, stored: ConfigObject): Raw {
  const before = objectAt(stored.raw, "metadata");
  const { selfLink: _, ...metadata } = { ...objectAt(raw, "metadata") };
  for (const field of systemFields) {
    delete metadata[field];
    if (before[field] !== undefined) metadata[field] = before[field];
  }
  return { ...raw, metadata };
}

/** A Service keeps its address through writes that don't speak of it. */
function withKeptAddress(raw: Raw, stored: ConfigObject, { addresses }: ApiContext): Raw {
  if (stored.kind !== "Service" || !wantsAddress(raw)) return raw;
  const before = textAt(stored.raw, "spec", "clusterIP");
  if (before !== "")
    return {
      ...raw,
      spec: { ...addressFields(objectAt(raw, "spec"), before), clusterIPs: objectAt(stored.raw, "spec").clusterIPs ?? [before] },
    };
  // It had none, as an ExternalName.
  const { address, release } = addresses.allocate(stored.metadata.namespace, stored.metadata.name);
  release();
  return { ...raw, spec: addressFields(objectAt(raw, "spec"), address) };
}
