/**
 * The endpoints of STRICT_DNS and LOGICAL_DNS clusters: host names of the load assignment resolved again and again.
 *
 * A name that does not exist has no endpoints; a resolver that fails changes nothing. By default the system's own way of
 * looking up is used (hosts file, nsswitch); where the time to live counts or resolvers are configured, DNS is asked directly.
 */
import * as dns from "node:dns";
import { isIP } from "node:net";
import { clone, create } from "@bufbuild/protobuf";
import { type Cluster, Cluster_DiscoveryType, Cluster_DnsLookupFamily } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AddressSchema, type SocketAddress } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { type LbEndpoint, LbEndpointSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { durationMs } from "../duration.ts";

export interface ResolvedAddress {
  readonly address: string;
  /** Undefined where the resolver does not say. */
  readonly ttlSeconds?: number;
}

/** Resolves to no addresses for a name that does not exist; rejects when the resolver fails. */
export type ResolveHost = (host: string, family: 4 | 6) => Promise<readonly ResolvedAddress[]>;

export interface DnsEndpointsOptions {
  readonly cluster: Cluster;
  readonly resolve?: ResolveHost;
  readonly onChange: (assignment: ClusterLoadAssignment) => void;
  readonly onEvent?: (event: "attempt" | "success" | "failure") => void;
}

const defaultRefreshMs = 5000;

/** As many look-ups at a time as leave the thread pool alone. */
const maxParallel = 4;

export class DnsEndpoints implements Disposable {
  /** Resolves when every name was looked up once, whatever came of it. */
  readonly ready: Promise<void>;
  #options: DnsEndpointsOptions;
  #isLogical: boolean;
  #addresses = new Map<string, readonly string[]>();
  #timers = new Map<string, NodeJS.Timeout>();
  #isClosed = false;
  #published = "";

  constructor(options: DnsEndpointsOptions) {
    this.#options = options;
    const type = options.cluster.clusterDiscoveryType;
    this.#isLogical = type.case === "type" && type.value === Cluster_DiscoveryType.LOGICAL_DNS;
    const hosts = new Set(socketAddresses(options.cluster).flatMap(({ address }) => (isIP(address) ? [] : [address])));
    this.ready = this.#resolveAll([...hosts]);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  async #resolveAll(hosts: readonly string[]): Promise<void> {
    const queue = [...hosts];
    const worker = async () => {
      for (let host = queue.shift(); host !== undefined; host = queue.shift()) await this.#refresh(host, false);
    };
    await Promise.all(Array.from({ length: maxParallel }, worker));
    this.#publish();
  }

  async #refresh(host: string, publishes: boolean): Promise<void> {
    const { cluster, onEvent } = this.#options;
    const refreshMs = durationMs(cluster.dnsRefreshRate, defaultRefreshMs);
    let nextMs = refreshMs;
    onEvent?.("attempt");
    try {
      const found = await this.#lookup(host);
      this.#addresses.set(host, found.map(({ address }) => address).sort());
      const ttls = found.flatMap(({ ttlSeconds }) => (ttlSeconds === undefined ? [] : [ttlSeconds]));
      if (cluster.respectDnsTtl && ttls.length > 0) nextMs = Math.max(1, Math.min(...ttls)) * 1000;
      onEvent?.("success");
    } catch {
      const failure = cluster.dnsFailureRefreshRate;
      if (failure) nextMs = durationMs(failure.baseInterval, refreshMs);
      onEvent?.("failure");
    }
    if (this.#isClosed) return;
    if (publishes) this.#publish();
    this.#timers.set(
      host,
      setTimeout(() => void this.#refresh(host, true), nextMs),
    );
  }

  async #lookup(host: string): Promise<readonly ResolvedAddress[]> {
    const { cluster } = this.#options;
    const resolve =
      this.#options.resolve ?? (cluster.respectDnsTtl || cluster.dnsResolvers.length > 0 ? directResolver(cluster) : systemResolve);
    const { V4_ONLY, V6_ONLY, V4_PREFERRED, ALL } = Cluster_DnsLookupFamily;
    switch (cluster.dnsLookupFamily) {
      case V4_ONLY:
        return resolve(host, 4);
      case V6_ONLY:
        return resolve(host, 6);
      case ALL: {
        const both = await Promise.allSettled([resolve(host, 4), resolve(host, 6)]);
        const found = both.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
        if (found.length === 0) throw (both[0] as PromiseRejectedResult).reason;
        return found.flat();
      }
      case V4_PREFERRED:
        return firstOf([() => resolve(host, 4), () => resolve(host, 6)]);
      default:
        return firstOf([() => resolve(host, 6), () => resolve(host, 4)]);
    }
  }

  #publish(): void {
    if (this.#isClosed) return;
    const key = JSON.stringify([...this.#addresses]);
    if (key === this.#published) return;
    this.#published = key;
    this.#options.onChange(this.#assignment());
  }

  #assignment(): ClusterLoadAssignment {
    const template = this.#options.cluster.loadAssignment ?? create(ClusterLoadAssignmentSchema);
    const assignment = clone(ClusterLoadAssignmentSchema, template);
    assignment.clusterName = this.#options.cluster.name;
    for (const locality of assignment.endpoints) locality.lbEndpoints = locality.lbEndpoints.flatMap((endpoint) => this.#expand(endpoint));
    return assignment;
  }

  /** An endpoint by host name becomes one per address, or the first only. */
  #expand(lbEndpoint: LbEndpoint): LbEndpoint[] {
    const endpoint = lbEndpoint.hostIdentifier.case === "endpoint" ? lbEndpoint.hostIdentifier.value : undefined;
    const socket = endpoint?.address?.address.case === "socketAddress" ? endpoint.address.address.value : undefined;
    if (!endpoint || !socket || isIP(socket.address)) return [lbEndpoint];
    const addresses = this.#addresses.get(socket.address) ?? [];
    return addresses.slice(0, this.#isLogical ? 1 : addresses.length).map((address) => {
      const copy = clone(LbEndpointSchema, lbEndpoint);
      if (copy.hostIdentifier.case === "endpoint") {
        copy.hostIdentifier.value.hostname ||= socket.address;
        copy.hostIdentifier.value.address = create(AddressSchema, { address: { case: "socketAddress", value: { ...socket, address } } });
      }
      return copy;
    });
  }
}

function socketAddresses(cluster: Cluster): SocketAddress[] {
  return (cluster.loadAssignment?.endpoints ?? []).flatMap(({ lbEndpoints }) =>
    lbEndpoints.flatMap(({ hostIdentifier }) =>
      hostIdentifier.case === "endpoint" && hostIdentifier.value.address?.address.case === "socketAddress"
        ? [hostIdentifier.value.address.address.value]
        : [],
    ),
  );
}

/** The first way that finds something. A failure counts only when no way finds anything. */
async function firstOf(ways: readonly (() => Promise<readonly ResolvedAddress[]>)[]): Promise<readonly ResolvedAddress[]> {
  let failure: unknown;
  for (const way of ways) {
    try {
      const found = await way();
      if (found.length > 0) return found;
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
  return [];
}

const systemResolve: ResolveHost = async (host, family) => {
  try {
    const found = await dns.promises.lookup(host, { all: true, family });
    return found.map(({ address }) => ({ address }));
  } catch (error) {
    return absentOrThrow(error);
  }
};

function directResolver(cluster: Cluster): ResolveHost {
  const resolver = new dns.promises.Resolver();
  const servers = cluster.dnsResolvers.flatMap(({ address }) =>
    address.case === "socketAddress" && address.value.portSpecifier.case === "portValue"
      ? [
          `${address.value.address.includes(":") ? `[${address.value.address}]` : address.value.address}:${address.value.portSpecifier.value}`,
        ]
      : [],
  );
  if (servers.length > 0) resolver.setServers(servers);
  return async (host, family) => {
    try {
      const found = family === 4 ? await resolver.resolve4(host, { ttl: true }) : await resolver.resolve6(host, { ttl: true });
      return found.map(({ address, ttl }) => ({ address, ttlSeconds: ttl }));
    } catch (error) {
      const absent = absentOrThrow(error);
      // A name of the hosts file is unknown to DNS.
      return servers.length > 0 ? absent : systemResolve(host, family);
    }
  };
}

function absentOrThrow(error: unknown): readonly ResolvedAddress[] {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOTFOUND" || code === "ENODATA") return [];
  throw error;
}
