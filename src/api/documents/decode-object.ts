import { ConfigError, type SourcePosition } from "../config-error.ts";
import { kindByName, kindOf } from "../kinds/index.ts";
import type { Kind } from "../kinds/kind.ts";
import type { ConfigObject, ObjectKey, ObjectMeta } from "../kinds/object.ts";
import { decode, isPlainObject } from "../schema/decode.ts";
import { type FieldPath, type FieldProblem, FieldReport, formatPath } from "../schema/field-report.ts";
import { anything, type Infer, int64, list, map, message, optional, string } from "../schema/schema.ts";
import type { SourceLocator } from "./source-locator.ts";

export interface DecodeOptions {
  /** Namespace of objects that name none. Default `default`. */
  readonly defaultNamespace?: string;
}

export interface DecodedObject {
  readonly object?: ConfigObject;
  /** What is known of the object's identity, also when it has errors. */
  readonly key?: ObjectKey;
  readonly errors: readonly ConfigError[];
  /** Set instead of `object` when the kind is none of ours. */
  readonly foreign?: ForeignObject;
}

/** An object of a kind that Topsail doesn't know. */
export interface ForeignObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly position?: SourcePosition | undefined;
}

/** Fields of Kubernetes' ObjectMeta; what a control plane doesn't read is taken and only kept in `raw`. */
const metadataSchema = message("ObjectMeta", {
  name: string(),
  generateName: string(),
  namespace: string(),
  labels: map(string()),
  annotations: map(string()),
  creationTimestamp: optional(string()),
  uid: string(),
  resourceVersion: string(),
  generation: int64(),
  finalizers: list(string()),
  ownerReferences: list(anything()),
  deletionTimestamp: optional(string()),
  deletionGracePeriodSeconds: optional(int64()),
  managedFields: anything(),
  selfLink: anything(),
  clusterName: anything(),
});

const topLevelFields = new Set(["apiVersion", "kind", "metadata", "spec", "status"]);

/** Decodes a parsed object strictly: identity, metadata, spec. `raw` is kept as it is and must not be changed afterwards. */
export function decodeObject(raw: unknown, options: DecodeOptions = {}, locator?: SourceLocator): DecodedObject {
  const position = locator?.locate([]);
  if (!isPlainObject(raw)) return { errors: [new ConfigError("is not an object with apiVersion, kind and metadata", { position })] };

  const report = new FieldReport();
  const { apiVersion, kind: kindName } = raw;
  if (typeof kindName !== "string" || kindName === "") report.at("kind").error("is missing: every object names its kind");
  if (typeof apiVersion !== "string" || apiVersion === "") report.at("apiVersion").error("is missing: every object names its apiVersion");
  if (typeof kindName !== "string" || typeof apiVersion !== "string" || report.hasErrors) {
    return { errors: toConfigErrors(report.problems, typeof kindName === "string" ? { kind: kindName } : {}, locator) };
  }

  const kind = kindOf(apiVersion, kindName);
  if (!kind) return { errors: [], foreign: foreignObject(raw, apiVersion, kindName, options, position) };
  const version = apiVersion.slice(apiVersion.indexOf("/") + 1);
  if (!kind.versions.includes(version)) {
    report.at("apiVersion").error(`version ${JSON.stringify(version)} of ${kind.kind} is not served: use ${kind.versions.join(", ")}`);
  }

  const metadata = decodeMetadata(raw.metadata, kind, options, report.at("metadata"));
  const key: ObjectKey = { kind: kind.kind, namespace: metadata.namespace, name: metadata.name };
  if (kind.specAt === "spec") {
    for (const field of Object.keys(raw)) {
      if (!topLevelFields.has(field) && kind.group.endsWith("istio.io")) {
        report.at(field).error(`unknown field: beside apiVersion, kind and metadata there are only spec and status`);
      }
    }
  }
  if (raw.status !== undefined && raw.status !== null && !isPlainObject(raw.status)) report.at("status").error("must be an object");

  const normalized = kind.normalize?.(raw) ?? raw;
  const spec = decode(kind.schema, specSource(kind, normalized), kind.specAt === "root" ? report : report.at("spec"));
  if (report.hasErrors) return { key, errors: toConfigErrors(report.problems, key, locator) };
  const object: ConfigObject = {
    kind: kind.kind,
    apiVersion,
    metadata,
    spec,
    raw: normalized,
    ...(isPlainObject(raw.status) ? { status: raw.status } : {}),
    ...(position ? { position } : {}),
  };
  return { object, key, errors: [] };
}

function specSource(kind: Kind, raw: Record<string, unknown>): unknown {
  switch (kind.specAt) {
    case "root":
      return raw;
    case "spec":
      return raw.spec ?? {};
    case "spec+status":
      return isPlainObject(raw.spec ?? {})
        ? { ...(isPlainObject(raw.status) ? raw.status : {}), ...((raw.spec ?? {}) as object) }
        : raw.spec;
    default:
      return kind.specAt satisfies never;
  }
}

function decodeMetadata(raw: unknown, kind: Kind, options: DecodeOptions, report: FieldReport): ObjectMeta {
  const decoded = decode(metadataSchema, raw ?? {}, report) as Infer<typeof metadataSchema>;
  if (decoded.name === "" && decoded.generateName === "") report.at("name").error("is missing");
  return {
    name: decoded.name,
    namespace: kind.namespaced ? decoded.namespace || (options.defaultNamespace ?? "default") : "",
    labels: decoded.labels,
    annotations: decoded.annotations,
    creationTimestamp: parseTimestamp(decoded.creationTimestamp, report.at("creationTimestamp")) ?? 0,
    uid: decoded.uid,
    resourceVersion: decoded.resourceVersion,
    generation: decoded.generation,
    generateName: decoded.generateName || undefined,
    finalizers: decoded.finalizers.length > 0 ? decoded.finalizers : undefined,
    ownerReferences: decoded.ownerReferences.length > 0 ? decoded.ownerReferences.filter(isPlainObject) : undefined,
    deletionTimestamp: parseTimestamp(decoded.deletionTimestamp, report.at("deletionTimestamp")),
  };
}

function parseTimestamp(text: string | undefined, report: FieldReport): number | undefined {
  if (text === undefined || text === "") return undefined;
  const parsed = Date.parse(text);
  if (!Number.isNaN(parsed)) return parsed;
  report.error(`${JSON.stringify(text)} is not a time such as "2026-01-31T12:00:00Z"`);
  return undefined;
}

function foreignObject(
  raw: Record<string, unknown>,
  apiVersion: string,
  kind: string,
  options: DecodeOptions,
  position: SourcePosition | undefined,
): ForeignObject {
  const metadata = isPlainObject(raw.metadata) ? raw.metadata : {};
  return {
    apiVersion,
    kind,
    namespace: typeof metadata.namespace === "string" ? metadata.namespace : (options.defaultNamespace ?? "default"),
    name: typeof metadata.name === "string" ? metadata.name : "",
    position,
  };
}

/** Says why a foreign object can't be taken where only known kinds make sense. */
export function unknownKindError(foreign: ForeignObject): ConfigError {
  const sameName = kindByName(foreign.kind);
  const hint = sameName ? ` (its apiVersion is ${sameName.group ? `${sameName.group}/` : ""}${sameName.versions[0]})` : "";
  return new ConfigError(`unknown kind ${JSON.stringify(foreign.kind)} in apiVersion ${JSON.stringify(foreign.apiVersion)}${hint}`, {
    kind: foreign.kind,
    namespace: foreign.namespace,
    name: foreign.name,
    field: "kind",
    position: foreign.position,
  });
}

/** Gives problems of an object their name and line. */
export function toConfigErrors(
  problems: readonly FieldProblem[],
  key: { readonly kind?: string | undefined; readonly namespace?: string | undefined; readonly name?: string | undefined },
  locator?: SourceLocator,
): ConfigError[] {
  return problems.map(
    (problem) =>
      new ConfigError(problem.message, {
        kind: key.kind,
        namespace: key.namespace || undefined,
        name: key.name || undefined,
        field: formatPath(problem.path),
        position: locator?.locate(problem.path as FieldPath),
      }),
  );
}
