/**
 * envoy.config.route.v3.RouteConfiguration, compiled.
 *
 * A request's host picks the virtual host (exact, longest suffix, longest prefix, `*`), and within it the first route in
 * list order whose conditions hold wins. A long list isn't walked: routes are filed by their path criterion (exact path,
 * prefix tree, the rest), and of the routes found there the one with the lowest index is taken, so that the answer is the
 * same as walking the list (see route-index.ts).
 */
import { ConfigError } from "../../api/config-error.ts";
import {
  VirtualHost_TlsRequirementType,
  type VirtualHost as VirtualHostMessage,
} from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { CompileContext } from "../compile-context.ts";
import type { StreamInfo } from "../stream-info.ts";
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
  readonly #exact: ReadonlyMap<string, VirtualHost>;
  /** By length of the suffix or prefix, longest first. */
  readonly #suffixes: readonly (readonly [length: number, hosts: ReadonlyMap<string, VirtualHost>])[];
  readonly #prefixes: readonly (readonly [length: number, hosts: ReadonlyMap<string, VirtualHost>])[];
  readonly #fallback: VirtualHost | null;
  readonly #ignoresPort: boolean;
  /** Host as it was written -> its virtual host; a proxy sees few hosts many times. Bounded. */
  readonly #seen = new Map<string, VirtualHost | null>();

  constructor(parts: {
    name: string;
    internalOnlyHeaders: ReadonlySet<string>;
    exact: ReadonlyMap<string, VirtualHost>;
    suffixes: ReadonlyMap<string, VirtualHost>;
    prefixes: ReadonlyMap<string, VirtualHost>;
    fallback: VirtualHost | null;
    ignoresPort: boolean;
  }) {
    this.name = parts.name;
    this.internalOnlyHeaders = parts.internalOnlyHeaders;
    this.#exact = parts.exact;
    this.#suffixes = byLength(parts.suffixes);
    this.#prefixes = byLength(parts.prefixes);
    this.#fallback = parts.fallback;
    this.#ignoresPort = parts.ignoresPort;
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
    let host = authority.toLowerCase();
    if (this.#ignoresPort) host = host.replace(/:\d+$/, "");
    const exact = this.#exact.get(host);
    if (exact !== undefined) return exact;
    for (const [length, hosts] of this.#suffixes) {
      if (host.length <= length) continue;
      const found = hosts.get(host.slice(host.length - length));
      if (found !== undefined) return found;
    }
    for (const [length, hosts] of this.#prefixes) {
      if (host.length <= length) continue;
      const found = hosts.get(host.slice(0, length));
      if (found !== undefined) return found;
    }
    return this.#fallback;
  }
}

function byLength(hosts: ReadonlyMap<string, VirtualHost>): [number, Map<string, VirtualHost>][] {
  const lengths = new Map<number, Map<string, VirtualHost>>();
  for (const [key, host] of hosts) {
    const group = lengths.get(key.length) ?? new Map<string, VirtualHost>();
    group.set(key, host);
    lengths.set(key.length, group);
  }
  return [...lengths].sort(([a], [b]) => b - a);
}

const defaultMaxDirectResponseBytes = 4096;

/** Throws ConfigError, in Envoy's words, for what is no route configuration. Opens nothing; usable in any thread. */
export function compileRouteConfiguration(config: RouteConfiguration, context: CompileContext): RouteTable {
  const exact = new Map<string, VirtualHost>();
  const suffixes = new Map<string, VirtualHost>();
  const prefixes = new Map<string, VirtualHost>();
  let fallback: VirtualHost | null = null;
  const names = new Set<string>();
  const configEdits = {
    request: compileHeaderEdits(config.requestHeadersToAdd, config.requestHeadersToRemove),
    response: compileHeaderEdits(config.responseHeadersToAdd, config.responseHeadersToRemove),
  };
  if (config.vhds !== undefined) throw new ConfigError("vhds is not supported by this proxy");
  const configFilters = context.compilePerFilterConfig(config.typedPerFilterConfig);
  for (const message of config.virtualHosts) {
    if (message.name === "") throw new ConfigError("VirtualHost: name: value length must be at least 1 characters");
    if (names.has(message.name))
      throw new ConfigError(
        `Only unique names for virtual hosts are permitted. Duplicate entry of virtual host with name ${message.name} in route ${config.name}`,
      );
    names.add(message.name);
    const host = compileVirtualHost(message, config, configEdits, configFilters, context);
    if (message.domains.length === 0) throw new ConfigError("VirtualHost: domains: value must contain at least 1 item(s)");
    for (const written of message.domains) {
      const domain = written.toLowerCase();
      if (domain === "*") {
        if (fallback !== null) throw new ConfigError(`Only a single wildcard domain is permitted in route ${config.name}`);
        fallback = host;
        continue;
      }
      const [into, key] = domain.startsWith("*")
        ? [suffixes, domain.slice(1)]
        : domain.endsWith("*")
          ? [prefixes, domain.slice(0, -1)]
          : [exact, domain];
      if (into.has(key))
        throw new ConfigError(`Only unique values for domains are permitted. Duplicate entry of domain ${written} in route ${config.name}`);
      into.set(key, host);
    }
  }
  return new RouteTable({
    name: config.name,
    internalOnlyHeaders: new Set(config.internalOnlyHeaders.map((name) => name.toLowerCase())),
    exact,
    suffixes,
    prefixes,
    fallback,
    ignoresPort: config.ignorePortInHostMatching,
  });
}

function compileVirtualHost(
  message: VirtualHostMessage,
  config: RouteConfiguration,
  configEdits: Edits,
  configFilters: ReadonlyMap<string, unknown>,
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
