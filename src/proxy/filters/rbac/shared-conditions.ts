/** Conditions that permissions and principals have in common. */
import { ConfigError } from "../../../api/config-error.ts";
import { MetadataSource, type SourcedMetadata } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { HeaderMatcher } from "../../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { MetadataMatcher } from "../../../api/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { PathMatcher } from "../../../api/gen/envoy/type/matcher/v3/path_pb.js";
import { compileHeaderMatcher } from "../../router/header-matcher.ts";
import { compileMetadataMatcher } from "../../router/metadata-matcher.ts";
import { compilePathMatchers } from "../../router/path-matcher.ts";
import { type Condition, ofRequest } from "./condition.ts";

export function headerCondition(matcher: HeaderMatcher): Condition {
  const test = compileHeaderMatcher(matcher);
  return ofRequest(({ info }) => test(info));
}

/** The path is one of those; what has no path (CONNECT, TCP) is never. */
export function pathCondition(matchers: readonly PathMatcher[]): Condition {
  const test = compilePathMatchers(matchers);
  return ofRequest(({ info }) => info.path !== "" && test(info.path));
}

export function metadataCondition(matcher: MetadataMatcher): Condition {
  const { namespace, test } = compileMetadataMatcher(matcher);
  return ofRequest(({ info }) => test(info.dynamicMetadata?.get(namespace)));
}

/** Without a route there is no metadata of one, and then not even an inverted matcher matches. */
export function sourcedMetadataCondition({ metadataMatcher, metadataSource }: SourcedMetadata): Condition {
  if (metadataMatcher === undefined) throw new ConfigError("SourcedMetadata: metadata_matcher: value is required");
  if (metadataSource !== MetadataSource.ROUTE) return metadataCondition(metadataMatcher);
  const { namespace, test } = compileMetadataMatcher(metadataMatcher);
  return ofRequest(({ route }) => route !== null && test(route.metadata?.filterMetadata[namespace]));
}

/** For an extension that this proxy doesn't have, in Envoy's words. */
export function unknownExtension(extension: {
  readonly name: string;
  readonly typedConfig?: { readonly typeUrl: string } | undefined;
}): ConfigError {
  const typeName = extension.typedConfig?.typeUrl.replace(/^.*\//, "") ?? "";
  return new ConfigError(`Didn't find a registered implementation for '${extension.name}' with type URL: '${typeName}'`);
}
