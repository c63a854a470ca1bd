/** envoy.type.matcher.v3.MetadataMatcher: a value somewhere in the metadata of a stream, a route or an endpoint. */
import { ConfigError } from "../../api/config-error.ts";
import type { MetadataMatcher } from "../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import { compileValueMatcher } from "./value-matcher.ts";

/** `fields`: the JSON object of the namespace that the matcher asks for, undefined where there is none. */
export type MetadataPredicate = (fields: unknown) => boolean;

export interface CompiledMetadataMatcher {
  readonly namespace: string;
  readonly test: MetadataPredicate;
}

export function compileMetadataMatcher(matcher: MetadataMatcher): CompiledMetadataMatcher {
  if (matcher.value === undefined) throw new ConfigError("MetadataMatcher: value: value is required");
  const path = matcher.path.map(({ segment }) => {
    if (segment.case === undefined) throw new ConfigError("PathSegment: segment: value is required");
    return segment.value;
  });
  const test = compileValueMatcher(matcher.value);
  const { invert } = matcher;
  return { namespace: matcher.filter, test: (fields) => test(valueAt(fields, path)) !== invert };
}

/** undefined where the path leads nowhere; it goes through objects only. */
export function valueAt(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (let i = 0; i < path.length; i++) {
    const key = path[i]!;
    if (typeof at !== "object" || at === null || Array.isArray(at) || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}
