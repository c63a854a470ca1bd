/**
 * From what a client sent to an object that can be stored, or the reason why not. In the order in which a Kubernetes API server with
 * Istio's webhook goes about it, and with their answers:
 *
 *   kind, version, name, namespace      400
 *   fields that there are not           400 for Strict, a warning for Warn; they are taken out
 *   defaults, fields of the system
 *   structure (Istio: the CRD's schema) 422
 *   meaning (Istio: the webhook)        400 "admission webhook ... denied the request"
 */
import type { ConfigError } from "../../../api/config-error.ts";
import { decodeObject } from "../../../api/documents/decode-object.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { objectAt } from "../../../api/kinds/raw-fields.ts";
import { isPlainObject } from "../../../api/schema/decode.ts";
import { validate } from "../../../api/validate.ts";
import { invalid, type Resource } from "../resources.ts";
import { ApiError } from "../status.ts";
import { checkStructure } from "../types/check-structure.ts";
import { isBuiltIn, typeOfKind } from "../types/object-types.ts";
import type { WriteOptions } from "../write-options.ts";
import { builtInProblems } from "./built-in-rules.ts";
import { meshConfigProblems } from "./mesh-config-rules.ts";

export type Raw = Record<string, unknown>;

const webhook = "validation.istio.io";

/** What the URL says the object is. `name` is "" when the object is to say it. */
export interface Place {
  readonly resource: Resource;
  readonly namespace: string;
  readonly name: string;
}

/** Checks that the body is an object of that place and takes out what its kind has not. Throws ApiError. */
export function readSubmitted(body: unknown, place: Place, options: WriteOptions, warnings: string[]): Raw {
  const { kind, apiVersion } = place.resource;
  if (!isPlainObject(body)) throw new ApiError(400, `the object provided is unrecognized: it is no ${kind.kind}`);
  if (body.kind !== undefined && body.kind !== kind.kind)
    throw new ApiError(
      400,
      `the object provided is a ${JSON.stringify(body.kind)}, but ${kind.plural} hold ${JSON.stringify(kind.kind)} objects`,
    );
  if (body.apiVersion !== undefined && body.apiVersion !== apiVersion)
    throw new ApiError(
      400,
      `the API version in the data (${String(body.apiVersion)}) does not match the expected API version (${apiVersion})`,
    );
  const { value, unknownFields, mismatches } = checkStructure({ apiVersion, kind: kind.kind, ...body }, typeOfKind(kind));
  const unfit = (reason: string) =>
    new ApiError(400, `${kind.kind} in version ${JSON.stringify(place.resource.version)} cannot be handled as a ${kind.kind}: ${reason}`);
  // For Istio's kinds the decoder says the same, with more of the context.
  const ofType = isBuiltIn(kind) ? mismatches : mismatches.filter(({ field }) => !field.startsWith("spec"));
  if (ofType.length > 0) throw unfit(ofType.map(({ field, message }) => `${field || kind.kind}: ${message}`).join(", "));
  if (unknownFields.length > 0 && options.fieldValidation === "Strict")
    throw unfit(`strict decoding error: ${unknownFields.map((field) => `unknown field ${JSON.stringify(field)}`).join(", ")}`);
  if (options.fieldValidation === "Warn") warnings.push(...unknownFields.map((field) => `unknown field ${JSON.stringify(field)}`));

  const raw = value as Raw;
  const metadata = objectAt(raw, "metadata");
  if (place.name !== "" && metadata.name !== undefined && metadata.name !== place.name)
    throw new ApiError(400, `the name of the object (${String(metadata.name)}) does not match the name on the URL (${place.name})`);
  if (kind.namespaced && metadata.namespace !== undefined && metadata.namespace !== "" && metadata.namespace !== place.namespace)
    throw new ApiError(400, "the namespace of the provided object does not match the namespace sent on the request");
  const { namespace: _, ...rest } = metadata;
  const name = place.name === "" ? {} : { name: place.name };
  return { ...raw, metadata: { ...rest, ...name, ...(kind.namespaced ? { namespace: place.namespace } : {}) } };
}

/** Fills in what the kind has by default, as every write does. */
export function withDefaults(raw: Raw, { kind }: Resource): Raw {
  const normalized = kind.normalize?.(raw) ?? raw;
  return kind.defaults?.(normalized) ?? normalized;
}

/** Decodes and checks; `stored` is what it takes the place of. Throws ApiError; adds what is worth a word to `warnings`. */
export function admit(raw: Raw, stored: ConfigObject | undefined, { kind }: Resource, warnings: string[]): ConfigObject {
  const name = String(objectAt(raw, "metadata").name ?? objectAt(raw, "metadata").generateName ?? "");
  const decoded = decodeObject(raw);
  if (!decoded.object) throw invalid(kind, name, decoded.errors.map(problemOf));
  const result = validate(decoded.object);
  if (isBuiltIn(kind)) {
    const problems = [...result.errors.map(problemOf), ...builtInProblems(raw, stored?.raw, kind), ...meshConfigProblems(decoded.object)];
    if (problems.length > 0) throw invalid(kind, name, problems);
  } else {
    const ofMetadata = result.errors.filter(({ field }) => field?.startsWith("metadata"));
    if (ofMetadata.length > 0) throw invalid(kind, name, ofMetadata.map(problemOf));
    if (result.errors.length > 0) throw denied(result.errors, { kind, name });
  }
  warnings.push(...result.warnings.map(sentenceOf));
  return decoded.object;
}

function problemOf({ field = "", message }: ConfigError): { field: string; message: string } {
  return { field, message };
}

function sentenceOf({ field, message }: ConfigError): string {
  return field ? `${field}: ${message}` : message;
}

/** Worded as Istio's webhook does, which gives no reason. */
function denied(errors: readonly ConfigError[], { kind, name }: { kind: Resource["kind"]; name: string }): ApiError {
  const bullets = errors.map((error) => `\n\t* ${sentenceOf(error)}`).join("");
  const count = `${errors.length} ${errors.length === 1 ? "error" : "errors"} occurred`;
  return new ApiError(400, `admission webhook "${webhook}" denied the request: configuration is invalid: ${count}:${bullets}\n\n`, {
    reason: "",
    details: {
      name,
      group: kind.group,
      kind: kind.plural,
      causes: errors.map(({ field, message }) => ({ reason: "FieldValueInvalid", message, field })),
    },
  });
}
