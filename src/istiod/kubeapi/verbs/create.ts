/** `create`: POST of a new object to its collection. */
import { randomInt } from "node:crypto";
import { objectAt, textAt } from "../../../api/kinds/raw-fields.ts";
import { admit, type Raw, readSubmitted, withDefaults } from "../admission/admit.ts";
import { wantsAddress } from "../admission/cluster-addresses.ts";
import { requireNamespace } from "../admission/namespaces.ts";
import type { Answer, ApiContext, ApiRequest } from "../context.ts";
import { managedAfterUpdate } from "../managed-fields/field-managers.ts";
import { presentObject } from "../present.ts";
import type { ObjectPath } from "../request-path.ts";
import { objectError } from "../resources.ts";
import { ApiError } from "../status.ts";
import { putObject } from "../store-access.ts";
import { typeOfKind } from "../types/object-types.ts";
import { type WriteOptions, writeOptionsOf } from "../write-options.ts";
import { presentationOf } from "./read.ts";

export async function createObject(context: ApiContext, path: ObjectPath, request: ApiRequest, body: unknown): Promise<Answer> {
  const options = writeOptionsOf(request);
  const presentation = presentationOf(path, request);
  const submitted = readSubmitted(body, path, options, request.warnings);
  if (textAt(submitted, "metadata", "resourceVersion") !== "")
    throw new ApiError(400, "resourceVersion should not be set on objects to be created");
  const { resource } = path;
  const named = withName(withoutSystemFields(submitted, resource.kind.subresources.includes("status")));
  const writer = { manager: options.manager, apiVersion: resource.apiVersion, subresource: "", nowMs: Date.now() };
  const managedFields = managedAfterUpdate(undefined, withManaged(named, []), typeOfKind(resource.kind), writer);
  const object = await storeNew(context, path, withManaged(named, managedFields), options, request.warnings);
  return { code: 201, body: presentObject(object, presentation) };
}

/** Fills in defaults, checks and stores. `raw` is named. Throws ApiError. */
export async function storeNew(
  context: ApiContext,
  { resource, namespace }: ObjectPath,
  raw: Raw,
  options: WriteOptions,
  warnings: string[],
) {
  const { kind } = resource;
  if (kind.namespaced) requireNamespace(context.store, namespace, true);
  const name = textAt(raw, "metadata", "name");
  if (context.store.get({ kind: kind.kind, namespace: kind.namespaced ? namespace : "", name }))
    throw objectError(409, kind, name, "already exists", { reason: "AlreadyExists" });
  const complete = withDefaults(raw, resource);
  const address = kind.kind === "Service" && wantsAddress(complete) ? context.addresses.allocate(namespace, name) : undefined;
  try {
    const object = admit(address ? withAddress(complete, address.address) : complete, undefined, resource, warnings);
    const stored = await putObject(context, kind, object, { absent: true }, options.isDryRun);
    if (kind.kind === "Namespace" && !options.isDryRun) await context.namespacesSettled();
    return stored;
  } finally {
    address?.release();
  }
}

function withAddress(service: Raw, clusterIP: string): Raw {
  return { ...service, spec: addressFields(objectAt(service, "spec"), clusterIP) };
}

/** What follows from the address of a Service. */
export function addressFields(spec: Readonly<Raw>, clusterIP: string): Raw {
  return {
    ...spec,
    clusterIP,
    clusterIPs: [clusterIP],
    ipFamilies: spec.ipFamilies ?? ["IPv4"],
    ipFamilyPolicy: spec.ipFamilyPolicy ?? "SingleStack",
  };
}

/** What only the system says of an object, and its status, which is written apart. */
function withoutSystemFields(raw: Raw, hasStatus: boolean): Raw {
  const {
    uid: _,
    generation: __,
    selfLink: ___,
    creationTimestamp: ____,
    deletionTimestamp: _____,
    deletionGracePeriodSeconds: ______,
    ...metadata
  } = objectAt(raw, "metadata");
  if (!hasStatus) return { ...raw, metadata };
  const { status: _status, ...rest } = raw;
  return { ...rest, metadata };
}

export function withManaged(raw: Raw, managedFields: readonly unknown[]): Raw {
  const { managedFields: _, ...metadata } = objectAt(raw, "metadata");
  return { ...raw, metadata: managedFields.length > 0 ? { ...metadata, managedFields } : metadata };
}

/** Without letters and digits that are taken for one another, or make words; Kubernetes' own. */
const suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789";

function withName(raw: Raw): Raw {
  const metadata = objectAt(raw, "metadata");
  if (textAt(metadata, "name") !== "") return raw;
  const base = textAt(metadata, "generateName");
  if (base === "") throw new ApiError(422, "name or generateName is required");
  const suffix = Array.from({ length: 5 }, () => suffixAlphabet[randomInt(suffixAlphabet.length)]).join("");
  return { ...raw, metadata: { ...metadata, name: `${base.slice(0, 248)}${suffix}` } };
}
