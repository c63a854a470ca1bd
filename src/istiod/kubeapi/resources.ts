/** The resources that the API serves, made from the kinds: one for each kind and version. */
import { kinds } from "../../api/kinds/index.ts";
import type { Kind } from "../../api/kinds/kind.ts";
import { ApiError, type ErrorCode, type StatusCause } from "./status.ts";

export interface Resource {
  readonly kind: Kind;
  readonly version: string;
  /** `apps/v1`, or `v1` for the core group. */
  readonly apiVersion: string;
}

/**
 * Groups in the order in which clients see them. A name that several groups have (`gateway`) is the first one's, so Istio's come before
 * those of other gateways.
 */
const groupOrder = [
  "",
  "apps",
  "networking.istio.io",
  "security.istio.io",
  "telemetry.istio.io",
  "extensions.istio.io",
  "networking.k8s.io",
  "discovery.k8s.io",
];

export interface ApiGroup {
  readonly name: string;
  /** The preferred one first. */
  readonly versions: readonly string[];
}

function rankOf(group: string): number {
  const rank = groupOrder.indexOf(group);
  return rank < 0 ? groupOrder.length : rank;
}

/** Those with objects; `authentication.k8s.io` and `authorization.k8s.io`, which have none, are the business of discovery. */
export const groups: readonly ApiGroup[] = [...new Set(kinds.map(({ group }) => group))]
  .sort((a, b) => rankOf(a) - rankOf(b) || (a < b ? -1 : 1))
  .map((name) => ({
    name,
    versions: [...new Set(kinds.filter(({ group }) => group === name).flatMap(({ versions }) => versions))].sort(byVersion),
  }));

/** v1 before v1beta1 before v1alpha3 before v1alpha1. */
function byVersion(a: string, b: string): number {
  const weight = (version: string) => {
    const { major = "0", level, minor = "0" } = /^v(?<major>\d+)(?:(?<level>alpha|beta)(?<minor>\d+))?$/.exec(version)?.groups ?? {};
    return (level === undefined ? 2 : level === "beta" ? 1 : 0) * 1_000_000 + Number(major) * 1000 + Number(minor);
  };
  return weight(b) - weight(a);
}

export function apiVersionOf(group: string, version: string): string {
  return group === "" ? version : `${group}/${version}`;
}

const byPath = new Map<string, Resource>();
for (const kind of kinds) {
  for (const version of kind.versions) {
    const apiVersion = apiVersionOf(kind.group, version);
    byPath.set(`${apiVersion}/${kind.plural}`, { kind, version, apiVersion });
  }
}

export function findResource(apiVersion: string, plural: string): Resource | undefined {
  return byPath.get(`${apiVersion}/${plural}`);
}

export function resourcesOf(apiVersion: string): Resource[] {
  return [...byPath.values()].filter((resource) => resource.apiVersion === apiVersion);
}

/** `virtualservices.networking.istio.io`, as messages name it. */
export function qualifiedName({ plural, group }: Kind): string {
  return group === "" ? plural : `${plural}.${group}`;
}

/** An error about one object: `virtualservices.networking.istio.io "reviews" not found`. */
export function objectError(
  code: ErrorCode,
  kind: Kind,
  name: string,
  message: string,
  options: { readonly reason?: string; readonly causes?: readonly StatusCause[] } = {},
): ApiError {
  const causes = options.causes ? { causes: options.causes } : {};
  return new ApiError(code, `${qualifiedName(kind)} ${JSON.stringify(name)} ${message}`, {
    ...(options.reason === undefined ? {} : { reason: options.reason }),
    details: { name, group: kind.group || undefined, kind: kind.plural, ...causes },
  });
}

export function notFound(kind: Kind, name: string): ApiError {
  return objectError(404, kind, name, "not found");
}

/** As Kubernetes tells what is wrong with fields: one in a line, several in brackets, each once more as a cause. */
export function invalid(kind: Kind, name: string, problems: readonly { readonly field: string; readonly message: string }[]): ApiError {
  const texts = problems.map(({ field, message }) => `${field}: Invalid value: ${message}`);
  const message = texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`;
  const causes = problems.map((problem) => ({
    reason: "FieldValueInvalid",
    message: `Invalid value: ${problem.message}`,
    field: problem.field,
  }));
  const qualified = kind.group === "" ? kind.kind : `${kind.kind}.${kind.group}`;
  return new ApiError(422, `${qualified} ${JSON.stringify(name)} is invalid: ${message}`, {
    details: { name, group: kind.group || undefined, kind: kind.kind, causes },
  });
}
