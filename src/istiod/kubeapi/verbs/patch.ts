/** `patch`: a change of the stored object, in one of four languages; or with server-side apply, what the object is to say. */
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { objectAt, textAt } from "../../../api/kinds/raw-fields.ts";
import { isPlainObject } from "../../../api/schema/decode.ts";
import { type Raw, readSubmitted } from "../admission/admit.ts";
import type { Answer, ApiContext, ApiRequest } from "../context.ts";
import { applyFields } from "../managed-fields/field-managers.ts";
import { jsonPatch } from "../patch/json-patch.ts";
import { mergePatch } from "../patch/merge-patch.ts";
import { PatchError } from "../patch/patch-error.ts";
import { strategicMerge } from "../patch/strategic-merge.ts";
import { presentObject, rawOf } from "../present.ts";
import type { Body } from "../request-body.ts";
import type { ObjectPath } from "../request-path.ts";
import { invalid } from "../resources.ts";
import { ApiError } from "../status.ts";
import { getObject } from "../store-access.ts";
import { isBuiltIn, typeOfKind } from "../types/object-types.ts";
import { type WriteOptions, writeOptionsOf } from "../write-options.ts";
import { storeNew } from "./create.ts";
import { presentationOf } from "./read.ts";
import { scaleOf, withScale } from "./scale.ts";
import { change } from "./update.ts";

const applyType = "application/apply-patch+yaml";

/** A patch that names no version is done again when the object has changed while it was worked out. Kubernetes' own number. */
const maxAttempts = 5;

export async function patchObject(context: ApiContext, path: ObjectPath, request: ApiRequest, body: Body): Promise<Answer> {
  const options = writeOptionsOf(request);
  const presentation = presentationOf(path, request);
  const { resource, namespace, name, subresource } = path;
  if (body.mediaType === applyType) {
    if (subresource === "scale") throw new ApiError(415, "a Scale can't be applied");
    return await apply(context, path, request, body.value, options);
  }
  const isScale = subresource === "scale";
  for (let attempt = 1; ; attempt++) {
    const stored = getObject(context, resource.kind, namespace, name);
    const before = isScale ? scaleOf(stored) : rawOf(stored, resource);
    const patched = patchedBy(before, body, path);
    const warnings: string[] = [];
    const submitted = isScale ? withScale(stored, patched) : readSubmitted(patched, path, options, warnings);
    try {
      const changed = await change(context, path, stored, submitted, options, warnings);
      request.warnings.push(...warnings);
      return { code: 200, body: isScale ? scaleOf(changed) : presentObject(changed, presentation) };
    } catch (error) {
      const namesVersion = textAt(submitted, "metadata", "resourceVersion") !== stored.metadata.resourceVersion;
      if (!(error instanceof ApiError) || error.code !== 409 || namesVersion || attempt === maxAttempts) throw error;
    }
  }
}

/** Throws ApiError. */
function patchedBy(before: unknown, { mediaType, value }: Body, { resource, subresource }: ObjectPath): unknown {
  try {
    switch (mediaType) {
      case "application/json-patch+json":
        return jsonPatch(before, value);
      case "application/merge-patch+json":
        if (!isPlainObject(value)) throw new PatchError(400, "a merge patch is an object");
        return mergePatch(before, value);
      case "application/strategic-merge-patch+json":
        if (isBuiltIn(resource.kind))
          return strategicMerge(before, value, subresource === "scale" ? { kind: "any" } : typeOfKind(resource.kind));
        throw unsupported(mediaType, "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml");
      default:
        throw unsupported(
          mediaType,
          "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        );
    }
  } catch (error) {
    if (!(error instanceof PatchError)) throw error;
    if (error.code === 400) throw new ApiError(400, `error decoding patch: ${error.message}`);
    throw new ApiError(422, `the server rejected our request due to an error in our request: ${error.message}`);
  }
}

function unsupported(mediaType: string, accepted: string): ApiError {
  return new ApiError(
    415,
    `the body of the request was in an unknown format (${mediaType || "none"}) - accepted media types include: ${accepted}`,
  );
}

async function apply(context: ApiContext, path: ObjectPath, request: ApiRequest, body: unknown, options: WriteOptions): Promise<Answer> {
  const { resource, namespace, name, subresource } = path;
  const { kind } = resource;
  if (!request.query.get("fieldManager"))
    throw new ApiError(400, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch');
  if (!isPlainObject(body) || body.apiVersion === undefined || body.kind === undefined)
    throw new ApiError(400, "what is applied names its apiVersion and kind");
  if (Array.isArray(objectAt(body, "metadata").managedFields)) throw new ApiError(400, "metadata.managedFields must be nil");
  const applied = readSubmitted(body, path, options, request.warnings);
  const presentation = presentationOf(path, request);
  const writer = { manager: options.manager, apiVersion: resource.apiVersion, subresource, nowMs: Date.now() };
  const type = typeOfKind(kind);
  const stored = context.store.get({ kind: kind.kind, namespace, name }) as ConfigObject | undefined;
  if (!stored) {
    if (subresource !== "")
      throw invalid(kind, name, [{ field: "metadata.name", message: "there is no such object whose status could be applied" }]);
    const made = await storeNew(context, path, applyFields(undefined, applied, type, writer, true), options, request.warnings);
    return { code: 201, body: presentObject(made, presentation) };
  }
  const merged: Raw = applyFields(
    rawOf(stored, resource),
    withoutServerFields(kind.normalize?.(applied) ?? applied, subresource),
    type,
    writer,
    options.isForced,
  );
  const changed = await change(context, path, stored, merged, options, request.warnings, true);
  return { code: 200, body: presentObject(changed, presentation) };
}

/** What is not the applier's to own: the status through the object, all but the status through the status. */
function withoutServerFields(applied: Raw, subresource: string): Raw {
  const { apiVersion, kind, metadata, status, ...rest } = applied;
  return subresource === "status"
    ? { apiVersion, kind, metadata: {}, ...(status === undefined ? {} : { status }) }
    : { apiVersion, kind, metadata, ...rest };
}
