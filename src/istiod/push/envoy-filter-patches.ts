/**
 * The patches of an EnvoyFilter, ready to be applied: values decoded, expressions compiled. Made once for an object, however many
 * contexts it lives through, so that two contexts can be compared by what is the same patch in both.
 * Source: Istio pilot/pkg/model/envoyfilter.go (convertToEnvoyFilterWrapper, proxyMatch).
 */
import type { Message } from "@bufbuild/protobuf";
import { RE2JS } from "re2js";
import { type PatchedMessage, readPatchValue } from "../../api/envoy/patched-messages.ts";
import type {
  EnvoyConfigObjectMatch,
  EnvoyConfigObjectPatch,
  EnvoyFilter,
  EnvoyFilterPatchContext,
  EnvoyFilterPatchOperation,
} from "../../api/kinds/envoy-filter.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ProxyNode, ProxyType } from "../../api/node.ts";

export type PatchContext = Exclude<EnvoyFilterPatchContext, "ANY" | "WAYPOINT">;

export interface Patch {
  readonly object: ConfigObject<EnvoyFilter>;
  /** Of the object's `configPatches`. */
  readonly index: number;
  readonly applyTo: PatchedMessage;
  readonly operation: Exclude<EnvoyFilterPatchOperation, "INVALID">;
  readonly context: PatchContext | "ANY";
  readonly match: EnvoyConfigObjectMatch | undefined;
  /** Of the message that `applyTo` means; never changed. Undefined for REMOVE alone. */
  readonly value: Message | undefined;
  /** Whether it is for this proxy, as far as the proxy's own version, metadata and type say. */
  readonly concerns: (proxy: ProxyNode) => boolean;
  /** What it says, as text: two patches with the same text do the same. */
  readonly text: string;
}

const compiled = new WeakMap<ConfigObject<EnvoyFilter>, readonly Patch[]>();

/** A patch that can't be read, or is for waypoints, of which there are none, is left out: validation has told of the one, remarks of the other. */
export function patchesOf(object: ConfigObject<EnvoyFilter>): readonly Patch[] {
  const known = compiled.get(object);
  if (known) return known;
  const patches = object.spec.configPatches.flatMap((message, index) => compile(object, index, message) ?? []);
  compiled.set(object, patches);
  return patches;
}

function compile(object: ConfigObject<EnvoyFilter>, index: number, message: EnvoyConfigObjectPatch): Patch | undefined {
  const { applyTo, match, patch } = message;
  const context = match?.context ?? "ANY";
  if (applyTo === "INVALID" || context === "WAYPOINT" || !patch || patch.operation === "INVALID") return undefined;
  if (patch.value === undefined && patch.operation !== "REMOVE") return undefined;
  let value: Message | undefined;
  try {
    value = patch.value === undefined ? undefined : readPatchValue(applyTo, patch.value);
  } catch {
    return undefined;
  }
  const ofProxy = proxyMatcher(match);
  return {
    object,
    index,
    applyTo,
    operation: effectiveOperation(applyTo, patch.operation),
    context,
    match,
    value,
    concerns: (proxy) => isContextOf(proxy.type, context) && ofProxy(proxy),
    text: JSON.stringify(message),
  };
}

/** Where there is no order to insert by, to insert is to add. */
function effectiveOperation(applyTo: PatchedMessage, operation: Patch["operation"]): Patch["operation"] {
  if (operation !== "INSERT_AFTER" && operation !== "INSERT_BEFORE" && operation !== "INSERT_FIRST") return operation;
  const isOrdered = applyTo === "HTTP_FILTER" || applyTo === "NETWORK_FILTER" || applyTo === "HTTP_ROUTE" || applyTo === "LISTENER_FILTER";
  return isOrdered ? operation : "ADD";
}

function isContextOf(type: ProxyType, context: Patch["context"]): boolean {
  return context === "ANY" || (context === "GATEWAY") === (type === "router");
}

const maxVersionPatternLength = 1024;

function proxyMatcher(match: EnvoyConfigObjectMatch | undefined): (proxy: ProxyNode) => boolean {
  const { proxyVersion: pattern = "", metadata = {} } = match?.proxy ?? {};
  const wanted = Object.entries(metadata);
  const hasVersion = versionMatcher(pattern);
  return (proxy) => hasVersion(proxy.istioVersion) && wanted.every(([key, value]) => proxy.metadata[key] === value);
}

/** A version that the proxy doesn't tell matches no pattern. */
function versionMatcher(pattern: string): (version: string) => boolean {
  if (pattern === "") return () => true;
  if (pattern.length > maxVersionPatternLength) return () => false;
  const regex = RE2JS.compile(pattern);
  return (version) => version !== "" && regex.matcher(version).find();
}
