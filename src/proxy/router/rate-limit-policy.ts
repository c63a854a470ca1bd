/**
 * `rate_limits` of routes and virtual hosts: actions that make descriptors of a request, for the filters that limit by them
 * (local_ratelimit by buckets of its own, ratelimit by asking a service). An action that finds nothing to say either leaves its entry
 * out or, as most do, lets the whole descriptor go.
 */
import { ConfigError } from "../../api/config-error.ts";
import {
  RateLimit_Action_MetaData_Source,
  type RateLimit_Action as RateLimitAction,
  type RateLimit as RateLimitMessage,
  RateLimit_XRateLimitOption as XRateLimitOption,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { MetadataKey } from "../../api/gen/envoy/type/metadata/v3/metadata_pb.js";
import { RateLimitUnit } from "../../api/gen/envoy/type/v3/ratelimit_unit_pb.js";
import { ipOf, maskedIp } from "../../lib/ip-range.ts";
import { getHeader } from "../http/header-list.ts";
import type { StreamInfo } from "../stream-info.ts";
import { decodedQueryParameter } from "./decoded-query.ts";
import { compileHeaderMatcher, compileQueryParameterMatcher, type RouteCondition } from "./header-matcher.ts";
import { compileHitsAddend, type HitsAddend } from "./hits-addend.ts";
import { valueAt } from "./metadata-matcher.ts";
import type { ClusterChoice, Route } from "./route.ts";

export interface DescriptorEntry {
  readonly key: string;
  readonly value: string;
}

export interface Descriptor {
  readonly entries: readonly DescriptorEntry[];
  /** What the request's metadata wants instead of the service's limit; null: nothing. */
  readonly limit: { readonly requestsPerUnit: number; readonly unit: RateLimitUnit } | null;
  /** How much the request counts; null: once, if the service doesn't say otherwise. */
  readonly hits: number | null;
  /** Whether responses are told of the limit; null: as the filter says. */
  readonly tellsLimits: boolean | null;
}

/** A request with its route; every HttpStream is one. */
export interface RoutedRequest {
  readonly info: StreamInfo;
  readonly route: Route | null;
  readonly choice: ClusterChoice | null;
}

interface PolicyEntry {
  readonly make: (request: RoutedRequest) => Descriptor | null;
  /** Counts when the response is through, and can limit only requests that come later. */
  readonly countsAfterwards: boolean;
  /** Named in a runtime key by which ratelimit can be told to leave it out; local_ratelimit leaves it out always. */
  readonly hasDisableKey: boolean;
}

export class RateLimitPolicy {
  /** Whether some of it counts when the response is through. */
  readonly hasAfterwards: boolean;
  /** By stage. */
  readonly #stages: ReadonlyMap<number, readonly PolicyEntry[]>;

  constructor(stages: ReadonlyMap<number, readonly PolicyEntry[]>) {
    this.#stages = stages;
    this.hasAfterwards = [...stages.values()].flat().some(({ countsAfterwards }) => countsAfterwards);
  }

  get isEmpty(): boolean {
    return this.#stages.size === 0;
  }

  /** Adds what the entries of that stage make of the request. */
  collect(stage: number, request: RoutedRequest, into: Descriptor[], { withDisableKey, afterwards = false }: CollectOptions): void {
    for (const { make, hasDisableKey, countsAfterwards } of this.#stages.get(stage) ?? []) {
      if ((hasDisableKey && !withDisableKey) || countsAfterwards !== afterwards) continue;
      const descriptor = make(request);
      if (descriptor !== null) into.push(descriptor);
    }
  }

  /** Of a filter's own policy, which has no stages. */
  descriptorsOf(request: RoutedRequest, afterwards = false): Descriptor[] {
    const into: Descriptor[] = [];
    this.collect(0, request, into, { withDisableKey: true, afterwards });
    return into;
  }
}

export interface CollectOptions {
  readonly withDisableKey: boolean;
  /** What counts when the response is through, instead of what decides on the request. Default false. */
  readonly afterwards?: boolean;
}

const maxStage = 10;

/** Of a route or a virtual host. There `hits_addend` has no effect, in Envoy neither. */
export function compileRateLimits(messages: readonly RateLimitMessage[], nodeCluster: string): RateLimitPolicy {
  if (messages.length === 0) return noRateLimits;
  const stages = new Map<number, PolicyEntry[]>();
  for (const message of messages) {
    const stage = message.stage ?? 0;
    if (stage > maxStage) throw new ConfigError(`RateLimit: stage: value must be less than or equal to ${maxStage}`);
    const entries = stages.get(stage) ?? [];
    entries.push({
      make: compileEntry(message, nodeCluster, null),
      hasDisableKey: message.disableKey !== "",
      countsAfterwards: message.applyOnStreamDone,
    });
    stages.set(stage, entries);
  }
  return new RateLimitPolicy(stages);
}

/** Of a filter's own configuration, for all routes or for one. Throws ConfigError in Envoy's words. */
export function compileFilterRateLimits(messages: readonly RateLimitMessage[], nodeCluster: string): RateLimitPolicy {
  if (messages.length === 0) return noRateLimits;
  const entries = messages.map((message): PolicyEntry => {
    if (message.stage !== undefined || message.disableKey !== "") {
      throw new ConfigError("'stage' field and 'disable_key' field are not supported");
    }
    const make = compileEntry(message, nodeCluster, compileHitsAddend(message.hitsAddend));
    return { make, hasDisableKey: false, countsAfterwards: message.applyOnStreamDone };
  });
  return new RateLimitPolicy(new Map([[0, entries]]));
}

export const noRateLimits = new RateLimitPolicy(new Map());

/** Which of the two lists count: the route's, and the virtual host's beside it, instead of an empty one, or not at all. */
export type VirtualHostRateLimits = "override" | "include" | "ignore";

/** The descriptors of a request; none where its route doesn't forward. */
export function descriptorsOf(
  request: RoutedRequest,
  stage: number,
  virtualHost: VirtualHostRateLimits,
  options: CollectOptions,
): Descriptor[] {
  const { route } = request;
  const into: Descriptor[] = [];
  if (route === null || route.action.kind !== "forward") return into;
  const { rateLimits, includesVirtualHostRateLimits } = route.action;
  rateLimits.collect(stage, request, into, options);
  const isIncluded = includesVirtualHostRateLimits || virtualHost === "include" || (virtualHost === "override" && rateLimits.isEmpty);
  if (isIncluded) route.scope.rateLimits.collect(stage, request, into, options);
  return into;
}

/** What an action says: an entry, nothing (`skip`), or that there is to be no descriptor (null). */
type Action = (request: RoutedRequest) => DescriptorEntry | "skip" | null;

function compileEntry(
  { actions: messages, limit, xRatelimitOption }: RateLimitMessage,
  nodeCluster: string,
  hitsOf: HitsAddend | null,
): PolicyEntry["make"] {
  if (messages.length === 0) throw new ConfigError("RateLimit: actions: value must contain at least 1 item(s)");
  const actions = messages.map((message) => compileAction(message, nodeCluster));
  const override = limit?.overrideSpecifier;
  const limitKey = override?.case === "dynamicMetadata" ? compileMetadataKey(override.value.metadataKey) : null;
  const tellsLimits = xRatelimitOption === XRateLimitOption.UNSPECIFIED ? null : xRatelimitOption === XRateLimitOption.DRAFT_VERSION_03;
  return (request) => {
    const entries: DescriptorEntry[] = [];
    for (const action of actions) {
      const entry = action(request);
      if (entry === null) return null;
      if (entry !== "skip") entries.push(entry);
    }
    const hits = hitsOf === null ? null : hitsOf(request.info);
    if (hits === undefined) return null;
    const ownLimit = limitKey === null ? null : limitOf(limitKey(request.info.dynamicMetadata));
    return { entries, limit: ownLimit, hits, tellsLimits };
  };
}

function compileAction({ actionSpecifier: action }: RateLimitAction, nodeCluster: string): Action {
  switch (action.case) {
    case "sourceCluster":
      return constant("source_cluster", nodeCluster);
    case "destinationCluster":
      return ({ choice, info }) => {
        if (choice === null) return null;
        const value = choice.clusterHeader === "" ? choice.cluster : (getHeader(info.requestHeaders, choice.clusterHeader) ?? "");
        return { key: "destination_cluster", value };
      };
    case "requestHeaders": {
      const { headerName, descriptorKey: key, skipIfAbsent } = action.value;
      if (headerName === "" || key === "") throw new ConfigError("RequestHeaders: header_name and descriptor_key are required");
      const read = headerReader(headerName.toLowerCase());
      return ({ info }) => {
        const value = read(info);
        return value === undefined ? (skipIfAbsent ? "skip" : null) : { key, value };
      };
    }
    case "queryParameters": {
      const { queryParameterName: name, descriptorKey: key, skipIfAbsent } = action.value;
      if (name === "" || key === "") throw new ConfigError("QueryParameters: query_parameter_name and descriptor_key are required");
      return ({ info }) => {
        const value = decodedQueryParameter(info.path, name);
        return value === undefined ? (skipIfAbsent ? "skip" : null) : { key, value };
      };
    }
    case "remoteAddress":
      return ({ info }) => {
        const value = ipOf(info.downstreamRemoteAddress);
        return value === null ? null : { key: "remote_address", value };
      };
    case "maskedRemoteAddress": {
      const { v4PrefixMaskLen = 32, v6PrefixMaskLen = 128 } = action.value;
      if (v4PrefixMaskLen > 32) throw new ConfigError("MaskedRemoteAddress: v4_prefix_mask_len: value must be less than or equal to 32");
      if (v6PrefixMaskLen > 128) throw new ConfigError("MaskedRemoteAddress: v6_prefix_mask_len: value must be less than or equal to 128");
      return ({ info }) => {
        const ip = ipOf(info.downstreamRemoteAddress);
        if (ip === null) return null;
        const length = ip.includes(":") ? v6PrefixMaskLen : v4PrefixMaskLen;
        return { key: "masked_remote_address", value: `${maskedIp(ip, length)}/${length}` };
      };
    }
    case "genericKey":
      if (action.value.descriptorValue === "")
        throw new ConfigError("GenericKey: descriptor_value: value length must be at least 1 characters");
      return constant(action.value.descriptorKey || "generic_key", action.value.descriptorValue);
    case "headerValueMatch": {
      const { descriptorKey, descriptorValue, expectMatch, headers } = action.value;
      if (headers.length === 0) throw new ConfigError("HeaderValueMatch: headers: value must contain at least 1 item(s)");
      return onMatch(headers.map(compileHeaderMatcher), expectMatch ?? true, descriptorKey || "header_match", descriptorValue);
    }
    case "queryParameterValueMatch": {
      const { descriptorKey, descriptorValue, expectMatch, queryParameters } = action.value;
      if (queryParameters.length === 0)
        throw new ConfigError("QueryParameterValueMatch: query_parameters: value must contain at least 1 item(s)");
      return onMatch(
        queryParameters.map((matcher) => compileQueryParameterMatcher(matcher, decodedQueryParameter)),
        expectMatch ?? true,
        descriptorKey || "query_match",
        descriptorValue,
      );
    }
    case "dynamicMetadata":
      return onMetadata({ ...action.value, skipIfAbsent: false, isRoute: false });
    case "metadata":
      return onMetadata({ ...action.value, isRoute: action.value.source === RateLimit_Action_MetaData_Source.ROUTE_ENTRY });
    case "extension":
      throw new ConfigError(`Rate limit descriptor extension not found: ${action.value.name}`);
    default:
      throw new ConfigError("Action: action_specifier: value is required");
  }
}

function constant(key: string, value: string): Action {
  const entry = { key, value };
  return () => entry;
}

function headerReader(name: string): (info: StreamInfo) => string | undefined {
  switch (name) {
    case ":method":
      return ({ method }) => method;
    case ":path":
      return ({ path }) => path || undefined;
    case ":authority":
    case "host":
      return ({ authority }) => authority;
    case ":scheme":
      return ({ scheme }) => scheme;
    default:
      return ({ requestHeaders }) => getHeader(requestHeaders, name);
  }
}

function onMatch(conditions: readonly RouteCondition[], expected: boolean, key: string, value: string): Action {
  if (value === "") throw new ConfigError("RateLimit.Action: descriptor_value: value length must be at least 1 characters");
  const entry = { key, value };
  return ({ info }) => (conditions.every((condition) => condition(info)) === expected ? entry : null);
}

interface MetadataAction {
  readonly descriptorKey: string;
  readonly metadataKey?: MetadataKey | undefined;
  readonly defaultValue: string;
  readonly skipIfAbsent: boolean;
  readonly isRoute: boolean;
}

function onMetadata({ descriptorKey: key, metadataKey, defaultValue, skipIfAbsent, isRoute }: MetadataAction): Action {
  if (key === "") throw new ConfigError("MetaData: descriptor_key: value length must be at least 1 characters");
  const fromStream = compileMetadataKey(metadataKey);
  return ({ info, route }) => {
    const found = isRoute ? fromStream(routeMetadata(route)) : fromStream(info.dynamicMetadata);
    const value = typeof found === "string" && found !== "" ? found : defaultValue;
    if (value !== "") return { key, value };
    return skipIfAbsent ? "skip" : null;
  };
}

function routeMetadata(route: Route | null): { get(namespace: string): unknown } {
  return { get: (namespace) => route?.metadata?.filterMetadata[namespace] };
}

type MetadataReader = (metadata: { get(namespace: string): unknown } | null) => unknown;

function compileMetadataKey(key: MetadataKey | undefined): MetadataReader {
  if (key === undefined) throw new ConfigError("MetadataKey: value is required");
  if (key.key === "") throw new ConfigError("MetadataKey: key: value length must be at least 1 characters");
  if (key.path.length === 0) throw new ConfigError("MetadataKey: path: value must contain at least 1 item(s)");
  const path = key.path.map(({ segment }) => segment.value ?? "");
  return (metadata) => (metadata === null ? undefined : valueAt(metadata.get(key.key), path));
}

function limitOf(value: unknown): Descriptor["limit"] {
  if (typeof value !== "object" || value === null) return null;
  const { requests_per_unit: requestsPerUnit, unit } = value as { requests_per_unit?: unknown; unit?: unknown };
  if (typeof requestsPerUnit !== "number" || typeof unit !== "string") return null;
  const known = RateLimitUnit[unit as keyof typeof RateLimitUnit];
  return known === undefined ? null : { requestsPerUnit: Math.floor(requestsPerUnit), unit: known };
}
