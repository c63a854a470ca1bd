/**
 * The endpoints of STRICT_DNS and LOGICAL_DNS clusters: host names of the load assignment resolved again and again.
 *
 *                      addresses          none, or no such name    resolver fails
 *      STRICT_DNS      all of them        no endpoints             stay as they were
 *      LOGICAL_DNS     one endpoint       stays as it was          stays as it was
 *
 * As Envoy does (source/extensions/clusters/dns/dns_cluster.cc).
 */
import { isIP } from "node:net";
import { clone, create } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import { type Cluster, Cluster_DiscoveryType, Cluster_DnsLookupFamily } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { AddressSchema, type SocketAddress } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import {
  Endpoint_AdditionalAddressSchema,
  type LbEndpoint,
  LbEndpointSchema,
} from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { type ClusterLoadAssignment, ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { durationMs } from "../duration.ts";
import { defaultResolver, type ResolvedAddress, type ResolveHost, resolverOf } from "./dns-resolver.ts";

export interface DnsEndpointsOptions {
  readonly cluster: Cluster;
  /** For clusters without a resolver of their own; by default as their other settings say. */
  readonly resolve?: ResolveHost;
  readonly onChange: (assignment: ClusterLoadAssignment) => void;
  readonly onEvent?: (event: "attempt" | "success" | "failure" | "unchanged") => void;
}

const defaultRefreshMs = 5000;
/** A longer one would end at once. */
const longestTimeoutMs = 2 ** 31 - 1;

/** As many look-ups at a time as leave the thread pool alone. */
const maxParallel = 4;

export class DnsEndpoints implements Disposable {
  /** Resolves when every name was looked up once, whatever came of it. */
  readonly ready: Promise<void>;
  #options: DnsEndpointsOptions;
  #isLogical: boolean;
  readonly #resolve: ResolveHost;
  readonly #refreshMs: number;
  #failures = 0;
  #addresses = new Map<string, readonly string[]>();
  #timers = new Map<string, NodeJS.Timeout>();
  #isClosed = false;
  #published = "";

  constructor(options: DnsEndpointsOptions) {
    this.#options = options;
    const { cluster } = options;
    const type = cluster.clusterDiscoveryType;
    this.#isLogical = type.case === "type" && type.value === Cluster_DiscoveryType.LOGICAL_DNS;
    this.#resolve = resolverOf(cluster) ?? options.resolve ?? defaultResolver(cluster);
    this.#refreshMs = durationMs(cluster.dnsRefreshRate, defaultRefreshMs);
    const hosts = new Set(socketAddresses(cluster).flatMap(({ address }) => (isIP(address) ? [] : [address])));
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
    const { onEvent } = this.#options;
    onEvent?.("attempt");
    const found = await this.#lookup(host).catch(() => null);
    // A logical host that was known once is never known to be nowhere.
    const isUsable = found !== null && (found.length > 0 || !this.#isLogical);
    if (isUsable) {
      onEvent?.("success");
      if (!this.#take(host, found)) onEvent?.("unchanged");
      this.#failures = 0;
    } else onEvent?.("failure");
    if (this.#isClosed) return;
    if (publishes) this.#publish();
    const nextMs = isUsable ? this.#nextMs(found) : this.#nextMsAfterFailure();
    this.#timers.set(
      host,
      setTimeout(() => void this.#refresh(host, true), nextMs),
    );
  }

  /** False: all was known. */
  #take(host: string, found: readonly ResolvedAddress[]): boolean {
    const addresses = [...new Set(found.map(({ address }) => address))];
    // Of a logical host the first counts, and nameservers that take turns mean it; of others the order says nothing.
    if (!this.#isLogical) addresses.sort();
    const known = this.#addresses.get(host);
    this.#addresses.set(host, addresses);
    return known?.join() !== addresses.join();
  }

  #nextMs(found: readonly ResolvedAddress[]): number {
    const { respectDnsTtl, dnsJitter } = this.#options.cluster;
    const ttls = respectDnsTtl ? found.flatMap(({ ttlSeconds }) => (ttlSeconds === undefined ? [] : [ttlSeconds])) : [];
    const leastMs = ttls.length === 0 ? 0 : Math.min(...ttls) * 1000;
    return Math.min((leastMs || this.#refreshMs) + Math.random() * durationMs(dnsJitter, 0), longestTimeoutMs);
  }

  /** Some time up to an interval that doubles, so that not all ask at once; the cluster's names share it. */
  #nextMsAfterFailure(): number {
    const { dnsFailureRefreshRate: rate } = this.#options.cluster;
    if (rate === undefined) return this.#refreshMs;
    const baseMs = durationMs(rate.baseInterval, 0);
    const intervalMs = Math.min(baseMs * 2 ** this.#failures++, durationMs(rate.maxInterval, baseMs * 10));
    return Math.random() * intervalMs;
  }

  async #lookup(host: string): Promise<readonly ResolvedAddress[]> {
    const resolve = this.#resolve;
    const { V4_ONLY, V6_ONLY, V4_PREFERRED, ALL } = Cluster_DnsLookupFamily;
    switch (this.#options.cluster.dnsLookupFamily) {
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

  /** An endpoint by host name becomes one for each address, or one that has them all. */
  #expand(lbEndpoint: LbEndpoint): LbEndpoint[] {
    const socket = socketAddressOf(lbEndpoint);
    if (socket === undefined || isIP(socket.address)) return [lbEndpoint];
    const addresses = this.#addresses.get(socket.address) ?? [];
    if (!this.#isLogical) return addresses.map((address) => endpointAt(lbEndpoint, socket, [address]));
    return addresses.length === 0 ? [] : [endpointAt(lbEndpoint, socket, addresses)];
  }
}

function endpointAt(lbEndpoint: LbEndpoint, socket: SocketAddress, addresses: readonly string[]): LbEndpoint {
  const copy = clone(LbEndpointSchema, lbEndpoint);
  if (copy.hostIdentifier.case !== "endpoint") return copy;
  const endpoint = copy.hostIdentifier.value;
  const [first, ...others] = addresses.map((address) =>
    create(AddressSchema, { address: { case: "socketAddress", value: { ...socket, address } } }),
  );
  endpoint.hostname ||= socket.address;
  endpoint.address = first;
  endpoint.additionalAddresses = others.map((address) => create(Endpoint_AdditionalAddressSchema, { address }));
  return copy;
}

function socketAddressOf({ hostIdentifier }: LbEndpoint): SocketAddress | undefined {
  const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
  return address?.case === "socketAddress" ? address.value : undefined;
}

function socketAddresses(cluster: Cluster): SocketAddress[] {
  return (cluster.loadAssignment?.endpoints ?? []).flatMap(({ lbEndpoints }) =>
    lbEndpoints.flatMap((endpoint) => socketAddressOf(endpoint) ?? []),
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

/** Throws ConfigError for what no cluster of a DNS type can have. */
export function checkDnsCluster(cluster: Cluster): void {
  resolverOf(cluster);
  const { clusterDiscoveryType: type, dnsFailureRefreshRate: rate, loadAssignment } = cluster;
  if (rate?.maxInterval !== undefined && durationMs(rate.maxInterval, 0) < durationMs(rate.baseInterval, 0)) {
    throw new ConfigError("dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval");
  }
  if (type.value !== Cluster_DiscoveryType.LOGICAL_DNS) return;
  const endpoints = loadAssignment?.endpoints ?? [];
  if (endpoints.length === 1 && endpoints[0]!.lbEndpoints.length === 1) return;
  throw new ConfigError(
    loadAssignment === undefined
      ? "LOGICAL_DNS clusters must have a single host"
      : "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
  );
}
