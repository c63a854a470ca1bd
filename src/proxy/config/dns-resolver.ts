/**
 * Which way host names of a cluster are looked up, by what the cluster or the bootstrap says.
 *
 *      cares         these nameservers, or the system's where it names none
 *      getaddrinfo   the system's own way: hosts file, nsswitch
 *      nothing       the system's own way, or its nameservers where the time to live counts
 */
import * as dns from "node:dns";
import { isIP } from "node:net";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import type { Cluster } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import type { TypedExtensionConfig } from "../../api/gen/envoy/config/core/v3/extension_pb.js";
import type { DnsResolutionConfig } from "../../api/gen/envoy/config/core/v3/resolver_pb.js";
import {
  type CaresDnsResolverConfig,
  CaresDnsResolverConfigSchema,
} from "../../api/gen/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js";
import { GetAddrInfoDnsResolverConfigSchema } from "../../api/gen/envoy/extensions/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver_pb.js";

export interface ResolvedAddress {
  readonly address: string;
  /** Undefined where the resolver does not say. */
  readonly ttlSeconds?: number;
}

/** Resolves to no addresses for a name that does not exist or has none; rejects when the resolver fails. */
export type ResolveHost = (host: string, family: 4 | 6) => Promise<readonly ResolvedAddress[]>;

/** What a Cluster and a Bootstrap have in common. */
export interface ResolverSettings {
  readonly typedDnsResolverConfig?: TypedExtensionConfig | undefined;
  readonly dnsResolutionConfig?: DnsResolutionConfig | undefined;
  /** The oldest of the three, of clusters alone. */
  readonly dnsResolvers?: readonly Address[];
}

/** A nameserver has so long to answer, and this many attempts are made, as with Envoy. */
const defaultTimeoutSeconds = 5n;
const defaultTries = 4;
const longestTimeoutMs = 2 ** 31 - 1;
/** It tells no time to live; Envoy takes this for it. */
const getaddrinfoTtlSeconds = 60;

/** Undefined where the settings name none, so that others decide. Throws ConfigError. */
export function resolverOf(settings: ResolverSettings): ResolveHost | undefined {
  const { typedDnsResolverConfig: typed, dnsResolutionConfig, dnsResolvers = [] } = settings;
  if (typed?.typedConfig !== undefined && typed.typedConfig.typeUrl !== "") return typedResolver(typed);
  const older = dnsResolutionConfig && dnsResolutionConfig.resolvers.length > 0 ? dnsResolutionConfig.resolvers : dnsResolvers;
  return older.length > 0 ? directResolver(older.map(serverAddress)) : undefined;
}

/** Of a cluster that has no resolver of its own. */
export function defaultResolver({ respectDnsTtl }: Pick<Cluster, "respectDnsTtl">): ResolveHost {
  return respectDnsTtl ? directResolver([]) : systemResolver;
}

function typedResolver({ name, typedConfig }: TypedExtensionConfig): ResolveHost {
  const cares = anyUnpack(typedConfig!, CaresDnsResolverConfigSchema);
  if (cares !== undefined) return caresResolver(cares);
  if (anyUnpack(typedConfig!, GetAddrInfoDnsResolverConfigSchema) !== undefined) return getaddrinfoResolver;
  const typeName = typedConfig!.typeUrl.replace(/^.*\//, "");
  throw new ConfigError(`Didn't find a registered implementation for '${name}' with type URL: '${typeName}'`);
}

function caresResolver(config: CaresDnsResolverConfig): ResolveHost {
  const written = config.resolvers.map(serverAddress);
  const systemHasServers = config.useResolversAsFallback && dns.getServers().some((server) => server !== "127.0.0.1");
  const timeoutMs = Math.min(Number(config.queryTimeoutSeconds || defaultTimeoutSeconds) * 1000, longestTimeoutMs);
  return directResolver(systemHasServers ? [] : written, { timeoutMs, tries: config.queryTries || defaultTries });
}

function serverAddress({ address }: Address): string {
  if (address.case !== "socketAddress") {
    throw new ConfigError(`DNS resolver '${address.case === "pipe" ? address.value.path : ""}' is not an IP address`);
  }
  const { address: ip, portSpecifier } = address.value;
  if (portSpecifier.case !== "portValue") throw new ConfigError(`DNS resolver '${ip}': port_value is required`);
  if (isIP(ip) === 0) throw new ConfigError(`malformed IP address: ${ip}`);
  return `${ip.includes(":") ? `[${ip}]` : ip}:${portSpecifier.value || 53}`;
}

const getaddrinfoResolver: ResolveHost = async (host, family) =>
  (await systemResolver(host, family)).map(({ address }) => ({ address, ttlSeconds: getaddrinfoTtlSeconds }));

const systemResolver: ResolveHost = async (host, family) => {
  try {
    const found = await dns.promises.lookup(host, { all: true, family });
    return found.map(({ address }) => ({ address }));
  } catch (error) {
    return absentOrThrow(error);
  }
};

/** `servers`: `ip:port`; none: the system's. */
function directResolver(
  servers: readonly string[],
  { timeoutMs, tries } = { timeoutMs: Number(defaultTimeoutSeconds) * 1000, tries: defaultTries },
): ResolveHost {
  const resolver = new dns.promises.Resolver({ timeout: timeoutMs, tries });
  if (servers.length > 0) resolver.setServers(servers);
  return async (host, family) => {
    try {
      const found = family === 4 ? await resolver.resolve4(host, { ttl: true }) : await resolver.resolve6(host, { ttl: true });
      return found.map(({ address, ttl }) => ({ address, ttlSeconds: ttl }));
    } catch (error) {
      const absent = absentOrThrow(error);
      // A name of the hosts file is unknown to DNS.
      return servers.length > 0 ? absent : systemResolver(host, family);
    }
  };
}

/** A resolver that says that there is nothing has not failed. */
function absentOrThrow(error: unknown): readonly ResolvedAddress[] {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOTFOUND" || code === "ENODATA") return [];
  throw error;
}
