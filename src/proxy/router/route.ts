/** One entry of a virtual host's route list, compiled: conditions, action, header edits, timeouts, retries. */
import { ConfigError } from "../../api/config-error.ts";
import { RoutingPriority } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type RedirectAction,
  RedirectAction_RedirectResponseCode,
  RouteAction_ClusterNotFoundResponseCode,
  type RouteAction as RouteActionMessage,
  type RouteMatch,
  type Route as RouteMessage,
  type WeightedCluster_ClusterWeight,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { CompileContext } from "../compile-context.ts";
import { readDataSource } from "../data-source.ts";
import { durationMs } from "../duration.ts";
import { runtimeFraction } from "../fraction.ts";
import { getHeader } from "../http/header-list.ts";
import { compileRegex, compileSubstitution } from "../regex.ts";
import type { HeaderList, StreamInfo } from "../stream-info.ts";
import { compileHashPolicy, type HashPolicy } from "./hash-policy.ts";
import { compileHeaderMatcher, compileQueryParameterMatcher, type RouteCondition } from "./header-matcher.ts";
import { compileHeaderEdits, type HeaderEdit } from "./header-mutation.ts";
import { compileMetadataMatcher } from "./metadata-matcher.ts";
import { compileMirrors, type MirrorPolicy } from "./mirror-policy.ts";
import { compileRateLimits, type RateLimitPolicy } from "./rate-limit-policy.ts";
import { compileRetryPolicy, type RetryPolicy } from "./retry-policy.ts";
import { pathWithoutQuery } from "./route-index.ts";
import { RouteStats } from "./route-stats.ts";
import type { Edits, RouteScope } from "./route-table.ts";

export interface PathCriterion {
  /** `rest`: only `matchesPath` can tell. */
  readonly kind: "exact" | "prefix" | "rest";
  readonly text: string;
}

export type PathRewrite = (path: string) => string;

export interface HostRewrite {
  readonly kind: "literal" | "header" | "pathRegex" | "auto";
  readonly literal: string;
  readonly substitute: ((path: string) => string) | null;
}

/** What a weighted cluster adds to its route. */
export interface ClusterChoice {
  readonly cluster: string;
  /** Name of the request header that names the cluster, "" when `cluster` does. */
  readonly clusterHeader: string;
  readonly weight: number;
  readonly edits: Edits;
  readonly hostRewrite: HostRewrite | null;
  readonly perFilterConfig: ReadonlyMap<string, unknown>;
}

export interface ForwardAction {
  readonly kind: "forward";
  readonly clusters: readonly ClusterChoice[];
  readonly totalWeight: number;
  /** Request header whose number stands for the random one; "" for none. */
  readonly weightHeader: string;
  readonly clusterNotFoundStatus: number;
  readonly rewritePath: PathRewrite | null;
  readonly hostRewrite: HostRewrite | null;
  readonly appendsForwardedHost: boolean;
  /** 0: none. */
  readonly timeoutMs: number;
  /** -1: that of the connection manager; 0: none. */
  readonly idleTimeoutMs: number;
  /** -1: that of the connection manager. */
  readonly maxStreamDurationMs: number;
  readonly grpcTimeoutHeaderMaxMs: number;
  /** -1 when max_grpc_timeout isn't set; 0 trusts the header. */
  readonly maxGrpcTimeoutMs: number;
  readonly retryPolicy: RetryPolicy | null;
  readonly mirrors: readonly MirrorPolicy[];
  readonly priority: "default" | "high";
  /** Empty: clusters that choose by hash choose at random. */
  readonly hashPolicy: HashPolicy;
  readonly rateLimits: RateLimitPolicy;
  readonly includesVirtualHostRateLimits: boolean;
  /** Upgrade type in lower case -> allowed. */
  readonly upgrades: ReadonlyMap<string, boolean>;
  /** A CONNECT leads to the bytes of the endpoint's connection, and is not passed on. */
  readonly endsTunnels: boolean;
}

export interface RedirectAnswer {
  readonly kind: "redirect";
  readonly status: number;
  readonly location: (info: StreamInfo) => string;
  /** The path as it is logged, when the redirect rewrites it. */
  readonly rewritePath: PathRewrite | null;
}

export interface DirectAnswer {
  readonly kind: "direct";
  readonly status: number;
  readonly body: string;
}

export type RouteAction = ForwardAction | RedirectAnswer | DirectAnswer | { readonly kind: "nonForwarding" };

export class Route {
  readonly name: string;
  readonly scope: RouteScope;
  readonly pathCriterion: PathCriterion;
  readonly action: RouteAction;
  /** Edits of route, virtual host and route configuration in the order in which they are made. */
  readonly requestEdits: readonly HeaderEdit[];
  readonly responseEdits: readonly HeaderEdit[];
  readonly metadata: RouteMessage["metadata"];
  readonly perFilterConfig: ReadonlyMap<string, unknown>;
  readonly decoratorOperation: string;
  /** null: nothing is counted of the route by itself. */
  readonly stats: RouteStats | null;
  readonly #matchesPath: (path: string) => boolean;
  readonly #conditions: readonly RouteCondition[];

  constructor(parts: {
    name: string;
    scope: RouteScope;
    pathCriterion: PathCriterion;
    matchesPath: (path: string) => boolean;
    conditions: readonly RouteCondition[];
    action: RouteAction;
    requestEdits: readonly HeaderEdit[];
    responseEdits: readonly HeaderEdit[];
    metadata: RouteMessage["metadata"];
    perFilterConfig: ReadonlyMap<string, unknown>;
    decoratorOperation: string;
    stats: RouteStats | null;
  }) {
    this.name = parts.name;
    this.scope = parts.scope;
    this.pathCriterion = parts.pathCriterion;
    this.action = parts.action;
    this.requestEdits = parts.requestEdits;
    this.responseEdits = parts.responseEdits;
    this.metadata = parts.metadata;
    this.perFilterConfig = parts.perFilterConfig;
    this.decoratorOperation = parts.decoratorOperation;
    this.stats = parts.stats;
    this.#matchesPath = parts.matchesPath;
    this.#conditions = parts.conditions;
  }

  /** `path` is without query. Hot. */
  matches(path: string, info: StreamInfo): boolean {
    if (!this.#matchesPath(path)) return false;
    const conditions = this.#conditions;
    for (let i = 0; i < conditions.length; i++) if (!conditions[i]!(info)) return false;
    return true;
  }
}

/** One of the route's clusters, by weight. */
export function chooseCluster(action: ForwardAction, requestHeaders: HeaderList): ClusterChoice {
  const { clusters } = action;
  if (clusters.length === 1) return clusters[0]!;
  let at = action.weightHeader === "" ? Math.random() * action.totalWeight : writtenChoice(action, requestHeaders);
  for (const choice of clusters) {
    at -= choice.weight;
    if (at < 0) return choice;
  }
  return clusters[clusters.length - 1]!;
}

function writtenChoice({ weightHeader, totalWeight }: ForwardAction, requestHeaders: HeaderList): number {
  const written = getHeader(requestHeaders, weightHeader);
  return written !== undefined && /^\d{1,19}$/.test(written) ? Number(BigInt(written) % BigInt(totalWeight)) : Math.random() * totalWeight;
}

export function compileRoute(message: RouteMessage, scope: RouteScope, context: CompileContext): Route {
  if (message.match === undefined) throw new ConfigError("Route: match: value is required");
  const path = compilePath(message.match);
  const action = compileAction(message, path, scope, context);
  const edits = {
    request: compileHeaderEdits(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderEdits(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const levels = [edits, scope.virtualHostEdits, scope.configEdits];
  if (scope.mostSpecificWins) levels.reverse();
  return new Route({
    name: message.name,
    scope,
    pathCriterion: path.criterion,
    matchesPath: path.matches,
    conditions: compileConditions(message.match, path.isConnect),
    action,
    requestEdits: levels.flatMap((level) => level.request),
    responseEdits: levels.flatMap((level) => level.response),
    metadata: message.metadata,
    perFilterConfig: new Map([...scope.perFilterConfig, ...context.compilePerFilterConfig(message.typedPerFilterConfig)]),
    decoratorOperation: message.decorator?.operation ?? "",
    stats: message.statPrefix === "" ? null : new RouteStats(context.stats, scope.virtualHostName, message.statPrefix),
  });
}

interface CompiledPath {
  readonly criterion: PathCriterion;
  readonly matches: (path: string) => boolean;
  /** How much of the path `prefix_rewrite` replaces; -1: all of it. */
  readonly prefixLength: number;
  readonly isConnect: boolean;
}

const rest: PathCriterion = { kind: "rest", text: "" };

function compilePath(match: RouteMatch): CompiledPath {
  const specifier = match.pathSpecifier;
  const ignoresCase = match.caseSensitive === false;
  switch (specifier.case) {
    case "prefix": {
      const prefix = specifier.value;
      if (ignoresCase) {
        const lower = prefix.toLowerCase();
        const matches = (path: string) => path.length >= lower.length && path.slice(0, lower.length).toLowerCase() === lower;
        return { criterion: rest, matches, prefixLength: prefix.length, isConnect: false };
      }
      const matches = prefix === "/" || prefix === "" ? () => true : (path: string) => path.startsWith(prefix);
      return {
        criterion: { kind: "prefix", text: prefix },
        matches: prefix === "/" ? (path) => path.charCodeAt(0) === 47 : matches,
        prefixLength: prefix.length,
        isConnect: false,
      };
    }
    case "path": {
      const wanted = specifier.value;
      if (ignoresCase) {
        const lower = wanted.toLowerCase();
        return { criterion: rest, matches: (path) => path.toLowerCase() === lower, prefixLength: -1, isConnect: false };
      }
      return { criterion: { kind: "exact", text: wanted }, matches: (path) => path === wanted, prefixLength: -1, isConnect: false };
    }
    case "pathSeparatedPrefix": {
      const prefix = specifier.value;
      if (!/^\/[^?#]*[^?#/]$/.test(prefix)) {
        throw new ConfigError(`RouteMatch: path_separated_prefix: value does not match regex pattern "^[^?#]+[^?#/]$"`);
      }
      const separated = (path: string) => path.length === prefix.length || path.charCodeAt(prefix.length) === 47;
      if (ignoresCase) {
        const lower = prefix.toLowerCase();
        return {
          criterion: rest,
          matches: (path) => path.slice(0, lower.length).toLowerCase() === lower && separated(path),
          prefixLength: prefix.length,
          isConnect: false,
        };
      }
      return {
        criterion: { kind: "prefix", text: prefix },
        matches: (path) => path.startsWith(prefix) && separated(path),
        prefixLength: prefix.length,
        isConnect: false,
      };
    }
    case "safeRegex":
      return { criterion: rest, matches: compileRegex(specifier.value), prefixLength: -1, isConnect: false };
    case "connectMatcher":
      return { criterion: rest, matches: () => true, prefixLength: -1, isConnect: true };
    case "pathMatchPolicy":
      throw new ConfigError(
        `Didn't find a registered implementation for '${specifier.value.name}' with type URL: '${specifier.value.typedConfig?.typeUrl.replace(/^.*\//, "") ?? ""}'`,
      );
    default:
      throw new ConfigError("RouteMatch: path_specifier: value is required");
  }
}

function compileConditions(match: RouteMatch, isConnect: boolean): RouteCondition[] {
  const conditions: RouteCondition[] = [];
  // CONNECT matches connect_matcher, and nothing else does.
  if (isConnect) conditions.push((info) => info.method === "CONNECT");
  conditions.push(
    ...match.headers.map(compileHeaderMatcher),
    ...match.queryParameters.map((matcher) => compileQueryParameterMatcher(matcher)),
  );
  if (match.grpc !== undefined) conditions.push((info) => isGrpc(info));
  if (match.runtimeFraction !== undefined) {
    const chance = runtimeFraction(match.runtimeFraction, 1);
    conditions.push(() => Math.random() < chance);
  }
  if (match.tlsContext !== undefined) {
    const { presented, validated } = match.tlsContext;
    conditions.push((info) => {
      const hasCertificate = info.connection.tls?.peerCertificate != null;
      return (presented === undefined || presented === hasCertificate) && (validated === undefined || validated === hasCertificate);
    });
  }
  for (const matcher of match.dynamicMetadata) {
    const { namespace, test } = compileMetadataMatcher(matcher);
    conditions.push((info) => test(info.dynamicMetadata?.get(namespace)));
  }
  return conditions;
}

/** What a filter looks at that has rules by RouteMatch (jwt_authn): path, headers and query parameters, and nothing else of it. */
export function compileRequestMatch(match: RouteMatch): RouteCondition {
  const path = compilePath(match);
  const conditions = [
    ...match.headers.map(compileHeaderMatcher),
    ...match.queryParameters.map((matcher) => compileQueryParameterMatcher(matcher)),
  ];
  return (info) => {
    if (path.isConnect ? info.method !== "CONNECT" : !path.matches(pathWithoutQuery(info.path))) return false;
    for (const condition of conditions) if (!condition(info)) return false;
    return true;
  };
}

export function isGrpc(info: StreamInfo): boolean {
  const type = getHeader(info.requestHeaders, "content-type");
  return type !== undefined && isGrpcContentType(type);
}

export function isGrpcContentType(type: string): boolean {
  return type.startsWith("application/grpc") && (type.length === 16 || type[16] === "+");
}

function compileAction(message: RouteMessage, path: CompiledPath, scope: RouteScope, context: CompileContext): RouteAction {
  switch (message.action.case) {
    case "route":
      return compileForward(message.action.value, path, scope, context);
    case "redirect":
      return compileRedirect(message.action.value, path);
    case "directResponse": {
      const { status, body } = message.action.value;
      if (status < 200 || status >= 600) throw new ConfigError("DirectResponseAction: status: value must be inside range [200, 600)");
      const bytes = readDataSource(body);
      if (bytes !== null && bytes.length > scope.maxDirectResponseBytes) {
        throw new ConfigError(`response body size is ${bytes.length} bytes; maximum is ${scope.maxDirectResponseBytes}`);
      }
      return { kind: "direct", status, body: bytes === null ? "" : bytes.toString("latin1") };
    }
    case "nonForwardingAction":
      return { kind: "nonForwarding" };
    case "filterAction":
      throw new ConfigError("Route: filter_action is not supported by this proxy");
    default:
      throw new ConfigError("Route: action: value is required");
  }
}

const noEdits: Edits = { request: [], response: [] };
const noFilterConfig: ReadonlyMap<string, unknown> = new Map();
const defaultTimeoutMs = 15_000;

function compileForward(action: RouteActionMessage, path: CompiledPath, scope: RouteScope, context: CompileContext): ForwardAction {
  const clusters = compileClusters(action, context);
  const totalWeight = clusters.reduce((sum, choice) => sum + choice.weight, 0);
  if (totalWeight <= 0) throw new ConfigError("Sum of weights in the weighted_cluster must be greater than 0.");
  const statuses: Record<RouteAction_ClusterNotFoundResponseCode, number> = {
    [RouteAction_ClusterNotFoundResponseCode.SERVICE_UNAVAILABLE]: 503,
    [RouteAction_ClusterNotFoundResponseCode.NOT_FOUND]: 404,
    [RouteAction_ClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR]: 500,
  };
  if (action.prefixRewrite !== "" && action.regexRewrite !== undefined) {
    throw new ConfigError("Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy");
  }
  return {
    kind: "forward",
    clusters,
    totalWeight,
    weightHeader: weightHeaderOf(action),
    clusterNotFoundStatus: statuses[action.clusterNotFoundResponseCode] ?? 503,
    rewritePath: compileRewrite(action.prefixRewrite, action.regexRewrite, path),
    hostRewrite: compileHostRewrite(action.hostRewriteSpecifier),
    appendsForwardedHost: action.appendXForwardedHost,
    timeoutMs: durationMs(action.timeout, defaultTimeoutMs),
    idleTimeoutMs: durationMs(action.idleTimeout, -1),
    maxStreamDurationMs: durationMs(action.maxStreamDuration?.maxStreamDuration, -1),
    grpcTimeoutHeaderMaxMs: durationMs(action.maxStreamDuration?.grpcTimeoutHeaderMax, -1),
    maxGrpcTimeoutMs: durationMs(action.maxGrpcTimeout, -1),
    retryPolicy: action.retryPolicy === undefined ? scope.retryPolicy : compileRetryPolicy(action.retryPolicy),
    mirrors: action.requestMirrorPolicies.length > 0 ? compileMirrors(action.requestMirrorPolicies) : scope.mirrors,
    priority: action.priority === RoutingPriority.HIGH ? "high" : "default",
    hashPolicy: compileHashPolicy(action.hashPolicy),
    rateLimits: compileRateLimits(action.rateLimits, context.nodeCluster),
    includesVirtualHostRateLimits: action.includeVhRateLimits ?? false,
    endsTunnels: action.upgradeConfigs.some(({ upgradeType, connectConfig }) => upgradeType.toLowerCase() === "connect" && connectConfig),
    upgrades: new Map(action.upgradeConfigs.map((upgrade) => [upgrade.upgradeType.toLowerCase(), upgrade.enabled ?? true])),
  };
}

function weightHeaderOf({ clusterSpecifier }: RouteActionMessage): string {
  if (clusterSpecifier.case !== "weightedClusters") return "";
  const { randomValueSpecifier } = clusterSpecifier.value;
  return randomValueSpecifier.case === "headerName" ? randomValueSpecifier.value.toLowerCase() : "";
}

function compileClusters(action: RouteActionMessage, context: CompileContext): ClusterChoice[] {
  const specifier = action.clusterSpecifier;
  switch (specifier.case) {
    case "cluster":
      if (specifier.value === "") throw new ConfigError("RouteAction: cluster: value length must be at least 1 characters");
      return [
        { cluster: specifier.value, clusterHeader: "", weight: 1, edits: noEdits, hostRewrite: null, perFilterConfig: noFilterConfig },
      ];
    case "clusterHeader":
      return [
        {
          cluster: "",
          clusterHeader: specifier.value.toLowerCase(),
          weight: 1,
          edits: noEdits,
          hostRewrite: null,
          perFilterConfig: noFilterConfig,
        },
      ];
    case "weightedClusters":
      return specifier.value.clusters.map((entry) => compileWeighted(entry, context));
    case "clusterSpecifierPlugin":
    case "inlineClusterSpecifierPlugin":
      throw new ConfigError("RouteAction: cluster specifier plugins are not supported by this proxy");
    default:
      throw new ConfigError("RouteAction: cluster_specifier: value is required");
  }
}

function compileWeighted(entry: WeightedCluster_ClusterWeight, context: CompileContext): ClusterChoice {
  if (entry.name === "" && entry.clusterHeader === "") throw new ConfigError("At least one of name or cluster_header need to be specified");
  return {
    cluster: entry.name,
    clusterHeader: entry.clusterHeader.toLowerCase(),
    weight: entry.weight ?? 0,
    edits: {
      request: compileHeaderEdits(entry.requestHeadersToAdd, entry.requestHeadersToRemove),
      response: compileHeaderEdits(entry.responseHeadersToAdd, entry.responseHeadersToRemove),
    },
    hostRewrite:
      entry.hostRewriteSpecifier.case === "hostRewriteLiteral"
        ? { kind: "literal", literal: entry.hostRewriteSpecifier.value, substitute: null }
        : null,
    perFilterConfig: context.compilePerFilterConfig(entry.typedPerFilterConfig),
  };
}

function compileHostRewrite(specifier: RouteActionMessage["hostRewriteSpecifier"]): HostRewrite | null {
  switch (specifier.case) {
    case "hostRewriteLiteral":
      return specifier.value === "" ? null : { kind: "literal", literal: specifier.value, substitute: null };
    case "hostRewriteHeader":
      return specifier.value === "" ? null : { kind: "header", literal: specifier.value.toLowerCase(), substitute: null };
    case "hostRewritePathRegex":
      return { kind: "pathRegex", literal: "", substitute: compileSubstitution(specifier.value) };
    case "autoHostRewrite":
      return specifier.value.value ? { kind: "auto", literal: "", substitute: null } : null;
    default:
      return null;
  }
}

function compileRewrite(prefixRewrite: string, regexRewrite: RedirectRegex, path: CompiledPath): PathRewrite | null {
  if (prefixRewrite !== "") {
    const length = path.prefixLength;
    return (written) => {
      const query = queryStart(written);
      const replaced = length < 0 ? query : Math.min(length, query);
      return prefixRewrite + written.slice(replaced);
    };
  }
  if (regexRewrite === undefined) return null;
  const substitute = compileSubstitution(regexRewrite);
  return (written) => {
    const query = queryStart(written);
    return substitute(written.slice(0, query)) + written.slice(query);
  };
}

type RedirectRegex = RouteActionMessage["regexRewrite"];

function queryStart(path: string): number {
  const query = path.search(/[?#]/);
  return query < 0 ? path.length : query;
}

const redirectStatuses: Record<RedirectAction_RedirectResponseCode, number> = {
  [RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY]: 301,
  [RedirectAction_RedirectResponseCode.FOUND]: 302,
  [RedirectAction_RedirectResponseCode.SEE_OTHER]: 303,
  [RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT]: 307,
  [RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT]: 308,
};

function compileRedirect(action: RedirectAction, path: CompiledPath): RedirectAnswer {
  const status = redirectStatuses[action.responseCode];
  if (status === undefined) throw new ConfigError("RedirectAction: response_code: value must be one of the defined enum values");
  const specifier = action.pathRewriteSpecifier;
  const pathRedirect = specifier.case === "pathRedirect" ? specifier.value : "";
  const rewrite =
    specifier.case === "prefixRewrite"
      ? compileRewrite(specifier.value, undefined, path)
      : specifier.case === "regexRewrite"
        ? compileRewrite("", specifier.value, path)
        : null;
  const scheme = action.schemeRewriteSpecifier;
  const schemeRedirect =
    scheme.case === "httpsRedirect" ? (scheme.value ? "https" : "") : scheme.case === "schemeRedirect" ? scheme.value : "";
  return {
    kind: "redirect",
    status,
    rewritePath: rewrite,
    location: (info) => {
      const oldScheme = info.scheme;
      const newScheme = schemeRedirect || oldScheme;
      const [oldHost, oldPort] = splitPort(info.authority);
      let port = "";
      if (action.portRedirect !== 0) port = `:${action.portRedirect}`;
      else if (action.hostRedirect === "" && oldPort !== "") {
        const isDefault = (oldScheme === "http" && oldPort === "80") || (oldScheme === "https" && oldPort === "443");
        if (!(schemeRedirect !== "" && schemeRedirect !== oldScheme && isDefault)) port = `:${oldPort}`;
      }
      const host = action.hostRedirect === "" ? oldHost : action.hostRedirect;
      return `${newScheme}://${host}${port}${redirectPath(info.path)}`;
    },
  };

  function redirectPath(written: string): string {
    const query = queryStart(written);
    if (pathRedirect !== "") {
      if (action.stripQuery) return pathRedirect.includes("?") ? pathRedirect : pathRedirect;
      return pathRedirect.includes("?") || pathRedirect.includes("#") ? pathRedirect : pathRedirect + written.slice(query);
    }
    const kept = action.stripQuery ? written.slice(0, query) : written;
    return rewrite === null ? kept : rewrite(kept);
  }
}

/** `host:port` into host and port, "" when there is none; the brackets of an IPv6 address stay. */
export function splitPort(authority: string): [host: string, port: string] {
  const colon = authority.lastIndexOf(":");
  if (colon < 0 || authority.indexOf("]", colon) >= 0 || !/^\d+$/.test(authority.slice(colon + 1))) return [authority, ""];
  return [authority.slice(0, colon), authority.slice(colon + 1)];
}
