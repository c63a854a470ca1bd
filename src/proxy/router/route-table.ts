/**
 * envoy.config.route.v3.RouteConfiguration, compiled.
 *
 * A request's host picks the virtual host (exact, longest suffix, longest prefix, `*`), and within it the first route in
 * list order whose conditions hold wins. A long list isn't walked: routes are filed by their path criterion (exact path,
 * prefix tree, the rest), and of the routes found there the one with the lowest index is taken, so that the answer is the
 * same as walking the list (see route-index.ts).
 */

import { fromBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import {
  RouteSchema,
  VirtualHost_TlsRequirementType,
  type VirtualHost as VirtualHostMessage,
  VirtualHostSchema,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { CompileContext } from "../compile-context.ts";
import type { StreamInfo } from "../stream-info.ts";
import { DomainTable, type NamedDomains } from "./domain-table.ts";
import type { HostChange, RoutesChange } from "./encoded-routes.ts";
import { compileHeaderEdits, type HeaderEdit } from "./header-mutation.ts";
import { compileMirrors, type MirrorPolicy } from "./mirror-policy.ts";
import { compileRateLimits, type RateLimitPolicy } from "./rate-limit-policy.ts";
import { compileRetryPolicy, type RetryPolicy } from "./retry-policy.ts";
import { compileRoute, type Route } from "./route.ts";
import { RouteIndex } from "./route-index.ts";

/** What a route inherits from its virtual host and route configuration. */
export interface RouteScope {
  readonly virtualHostName: string;
  readonly configEdits: Edits;
  readonly virtualHostEdits: Edits;
  readonly mostSpecificWins: boolean;
  readonly retryPolicy: RetryPolicy | null;
  readonly mirrors: readonly MirrorPolicy[];
  readonly includesAttemptCount: boolean;
  readonly includesAttemptCountInResponse: boolean;
  readonly perFilterConfig: ReadonlyMap<string, unknown>;
  /** Of the route configuration alone. */
  readonly outerFilterConfig: ReadonlyMap<string, unknown>;
  readonly maxDirectResponseBytes: number;
  readonly rateLimits: RateLimitPolicy;
}

export interface Edits {
  readonly request: readonly HeaderEdit[];
  readonly response: readonly HeaderEdit[];
}

export interface VirtualHost {
  readonly name: string;
  readonly requiresTls: "none" | "externalOnly" | "all";
  readonly routes: RouteIndex;
  readonly scope: RouteScope;
}

export class RouteTable {
  readonly name: string;
  readonly internalOnlyHeaders: ReadonlySet<string>;
  /** As they were configured. */
  readonly hosts: readonly VirtualHost[];
  readonly #domains: DomainTable<VirtualHost>;
  readonly #ignoresPort: boolean;
  /** Host as it was written -> its virtual host; a proxy sees few hosts many times. Bounded. */
  readonly #seen = new Map<string, VirtualHost | null>();

  constructor(config: RouteConfiguration, hosts: readonly VirtualHost[], domains: DomainTable<VirtualHost>) {
    this.name = config.name;
    this.internalOnlyHeaders = new Set(config.internalOnlyHeaders.map((name) => name.toLowerCase()));
    this.hosts = hosts;
    this.#domains = domains;
    this.#ignoresPort = config.ignorePortInHostMatching;
  }

  /** Hot. */
  virtualHost(authority: string): VirtualHost | null {
    const seen = this.#seen.get(authority);
    if (seen !== undefined) return seen;
    const found = this.#find(authority);
    if (this.#seen.size >= 1024) this.#seen.clear();
    this.#seen.set(authority, found);
    return found;
  }

  /** The route for a request, or null. Hot. */
  route(info: StreamInfo): Route | null {
    const host = this.virtualHost(info.authority);
    return host === null ? null : host.routes.find(info);
  }

  #find(authority: string): VirtualHost | null {
    const host = authority.toLowerCase();
    return this.#domains.find(this.#ignoresPort ? host.replace(/:\d+$/, "") : host);
  }
}

const defaultMaxDirectResponseBytes = 4096;

/** Throws ConfigError, in Envoy's words, for what is no route configuration. Opens nothing; usable in any thread. */
export function compileRouteConfiguration(config: RouteConfiguration, context: CompileContext): RouteTable {
  const outer = compileOuterScope(config, context);
  const hosts: VirtualHost[] = [];
  const domains = new DomainTable<VirtualHost>(config.name);
  for (const message of config.virtualHosts) {
    const host = compileVirtualHost(message, outer, context);
    hosts.push(host);
    domains.add(message, host);
  }
  return new RouteTable(config, hosts, domains);
}

/** The same with what has not changed taken from before. Throws ConfigError. */
export function recompileRoutes({ configuration, hosts: changes }: RoutesChange, before: RouteTable, context: CompileContext): RouteTable {
  let outer: OuterScope | undefined;
  const domains = new DomainTable<VirtualHost>(configuration.name);
  const hosts = changes.map((change) => {
    const old = before.hosts[change.same];
    let host: VirtualHost;
    if (old === undefined) {
      outer ??= compileOuterScope(configuration, context);
      host = compileVirtualHost(fromBinary(VirtualHostSchema, change.host.bytes), outer, context);
    } else host = change.routes === null ? old : { ...old, routes: recompileList(change.routes, old, context) };
    domains.add(change.host, host);
    return host;
  });
  return new RouteTable(configuration, hosts, domains);
}

function recompileList(
  routes: NonNullable<HostChange["routes"]>,
  { routes: old, scope }: VirtualHost,
  context: CompileContext,
): RouteIndex {
  return old.withRoutes(routes.map(({ bytes, same }) => old.list[same] ?? compileRoute(fromBinary(RouteSchema, bytes), scope, context)));
}

/** What is wrong between the virtual hosts of a configuration, in Envoy's words: throws ConfigError. */
export function checkDomains(name: string, hosts: Iterable<NamedDomains>): void {
  const domains = new DomainTable<null>(name);
  for (const host of hosts) domains.add(host, null);
}

/** What all virtual hosts inherit. */
interface OuterScope {
  readonly config: RouteConfiguration;
  readonly edits: Edits;
  readonly filters: ReadonlyMap<string, unknown>;
}

function compileOuterScope(config: RouteConfiguration, context: CompileContext): OuterScope {
  if (config.vhds !== undefined) throw new ConfigError("vhds is not supported by this proxy");
  return {
    config,
    edits: {
      request: compileHeaderEdits(config.requestHeadersToAdd, config.requestHeadersToRemove),
      response: compileHeaderEdits(config.responseHeadersToAdd, config.responseHeadersToRemove),
    },
    filters: context.compilePerFilterConfig(config.typedPerFilterConfig),
  };
}

function compileVirtualHost(
  message: VirtualHostMessage,
  { config, edits: configEdits, filters: configFilters }: OuterScope,
  context: CompileContext,
): VirtualHost {
  if (message.matcher !== undefined) throw new ConfigError("VirtualHost: matcher is not supported by this proxy");
  const scope: RouteScope = {
    virtualHostName: message.name,
    configEdits,
    virtualHostEdits: {
      request: compileHeaderEdits(message.requestHeadersToAdd, message.requestHeadersToRemove),
      response: compileHeaderEdits(message.responseHeadersToAdd, message.responseHeadersToRemove),
    },
    mostSpecificWins: config.mostSpecificHeaderMutationsWins,
    retryPolicy: message.retryPolicy === undefined ? null : compileRetryPolicy(message.retryPolicy),
    mirrors: compileMirrors([message.requestMirrorPolicies, config.requestMirrorPolicies].find((list) => list.length > 0) ?? []),
    includesAttemptCount: message.includeRequestAttemptCount,
    includesAttemptCountInResponse: message.includeAttemptCountInResponse,
    perFilterConfig: new Map([...configFilters, ...context.compilePerFilterConfig(message.typedPerFilterConfig)]),
    outerFilterConfig: configFilters,
    maxDirectResponseBytes: config.maxDirectResponseBodySizeBytes ?? defaultMaxDirectResponseBytes,
    rateLimits: compileRateLimits(message.rateLimits, context.nodeCluster),
  };
  return {
    name: message.name,
    requiresTls:
      message.requireTls === VirtualHost_TlsRequirementType.ALL
        ? "all"
        : message.requireTls === VirtualHost_TlsRequirementType.EXTERNAL_ONLY
          ? "externalOnly"
          : "none",
    routes: new RouteIndex(message.routes.map((route) => compileRoute(route, scope, context))),
    scope,
  };
}
