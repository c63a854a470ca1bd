/**
 * Which filter chain takes a connection. Criteria are looked at in a fixed order; at each one the chains that name the most
 * specific fitting value stay, and if there is none those that name nothing; there is no way back (reference 1.3).
 */
import { BlockList, isIPv6 } from "node:net";
import { ConfigError } from "../../api/config-error.ts";
import type { CidrRange } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import {
  type FilterChainMatch,
  FilterChainMatch_ConnectionSourceType,
} from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";

export interface ConnectionTraits {
  readonly destinationIp: string;
  readonly destinationPort: number;
  readonly serverName: string;
  /** `tls` or `raw_buffer` */
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSourceIp: string;
  readonly sourceIp: string;
  readonly sourcePort: number;
}

interface Range {
  readonly prefixLength: number;
  readonly list: BlockList;
}

interface Criteria<T> {
  readonly chain: T;
  readonly port: number;
  readonly destinations: readonly Range[];
  readonly serverNames: readonly string[];
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSources: readonly Range[];
  readonly sourceType: "any" | "sameIpOrLoopback" | "external";
  readonly sources: readonly Range[];
  readonly sourcePorts: readonly number[];
}

export class FilterChainMatcher<T> {
  readonly #chains: readonly Criteria<T>[];
  readonly #fallback: T | null;

  constructor(chains: readonly (readonly [chain: T, match: FilterChainMatch | undefined])[], fallback: T | null) {
    this.#chains = chains.map(([chain, match]) => compile(chain, match));
    this.#fallback = fallback;
    const seen = new Map<string, number>();
    for (const [index, criteria] of this.#chains.entries()) {
      const { chain: _, ...rest } = criteria;
      const key = JSON.stringify({ ...rest, ...describeRanges(chains[index]![1]) });
      if (seen.has(key))
        throw new ConfigError(
          "error adding listener: filter chain has the same matching rules defined as another. duplicate matcher is rejected",
        );
      seen.set(key, index);
    }
  }

  /** Whether a connection's first bytes have to be looked at before a chain can be chosen. */
  get looksAtTls(): boolean {
    return this.#chains.some(
      (chain) => chain.serverNames.length > 0 || chain.transportProtocol !== "" || chain.applicationProtocols.length > 0,
    );
  }

  find(traits: ConnectionTraits): T | null {
    let left = this.#chains;
    if (left.length === 0) return this.#fallback;
    left = narrow(left, (chain) => (chain.port === 0 ? -1 : chain.port === traits.destinationPort ? 1 : null));
    left = narrow(left, (chain) => rangeScore(chain.destinations, traits.destinationIp));
    left = narrow(left, (chain) => nameScore(chain.serverNames, traits.serverName));
    left = narrow(left, (chain) => (chain.transportProtocol === "" ? -1 : chain.transportProtocol === traits.transportProtocol ? 1 : null));
    left = narrow(left, (chain) => protocolScore(chain.applicationProtocols, traits.applicationProtocols));
    left = narrow(left, (chain) => rangeScore(chain.directSources, traits.directSourceIp));
    left = narrow(left, (chain) => sourceTypeScore(chain.sourceType, traits));
    left = narrow(left, (chain) => rangeScore(chain.sources, traits.sourceIp));
    left = narrow(left, (chain) => (chain.sourcePorts.length === 0 ? -1 : chain.sourcePorts.includes(traits.sourcePort) ? 1 : null));
    return left[0]?.chain ?? this.#fallback;
  }
}

/** Keeps the chains with the highest score; null does not fit, -1 names nothing. */
function narrow<T>(chains: readonly Criteria<T>[], score: (chain: Criteria<T>) => number | null): readonly Criteria<T>[] {
  let best = Number.NEGATIVE_INFINITY;
  let kept: Criteria<T>[] = [];
  for (const chain of chains) {
    const value = score(chain);
    if (value === null || value < best) continue;
    if (value > best) {
      best = value;
      kept = [];
    }
    kept.push(chain);
  }
  return kept;
}

function rangeScore(ranges: readonly Range[], ip: string): number | null {
  if (ranges.length === 0) return -1;
  let best: number | null = null;
  for (const { prefixLength, list } of ranges) {
    if ((best === null || prefixLength > best) && list.check(ip, ip.includes(":") ? "ipv6" : "ipv4")) best = prefixLength;
  }
  return best;
}

function nameScore(names: readonly string[], serverName: string): number | null {
  if (names.length === 0) return -1;
  if (serverName === "") return null;
  let best: number | null = null;
  for (const name of names) {
    if (name === serverName) return 1_000_000;
    if (name.startsWith("*.") && serverName.endsWith(name.slice(1)) && serverName.length > name.length - 1) {
      best = Math.max(best ?? 0, name.length);
    }
  }
  return best;
}

/** The client's first protocol that a chain names wins. */
function protocolScore(wanted: readonly string[], offered: readonly string[]): number | null {
  if (wanted.length === 0) return -1;
  const index = offered.findIndex((protocol) => wanted.includes(protocol));
  return index < 0 ? null : 1000 - index;
}

function sourceTypeScore(type: Criteria<unknown>["sourceType"], traits: ConnectionTraits): number | null {
  if (type === "any") return -1;
  const isLocal = traits.sourceIp === traits.destinationIp || traits.sourceIp.startsWith("127.") || traits.sourceIp === "::1";
  return isLocal === (type === "sameIpOrLoopback") ? 1 : null;
}

function compile<T>(chain: T, match: FilterChainMatch | undefined): Criteria<T> {
  for (const name of match?.serverNames ?? []) {
    if (name.slice(name.startsWith("*.") ? 1 : 0).includes("*")) {
      throw new ConfigError(`error adding listener: partial wildcards are not supported in "server_names"`);
    }
  }
  const types = {
    [FilterChainMatch_ConnectionSourceType.ANY]: "any",
    [FilterChainMatch_ConnectionSourceType.SAME_IP_OR_LOOPBACK]: "sameIpOrLoopback",
    [FilterChainMatch_ConnectionSourceType.EXTERNAL]: "external",
  } as const;
  return {
    chain,
    port: match?.destinationPort ?? 0,
    destinations: (match?.prefixRanges ?? []).map(compileRange),
    serverNames: (match?.serverNames ?? []).map((name) => name.toLowerCase()),
    transportProtocol: match?.transportProtocol ?? "",
    applicationProtocols: match?.applicationProtocols ?? [],
    directSources: (match?.directSourcePrefixRanges ?? []).map(compileRange),
    sourceType: types[match?.sourceType ?? FilterChainMatch_ConnectionSourceType.ANY] ?? "any",
    sources: (match?.sourcePrefixRanges ?? []).map(compileRange),
    sourcePorts: match?.sourcePorts ?? [],
  };
}

function compileRange(range: CidrRange): Range {
  const prefixLength = range.prefixLen ?? 0;
  const list = new BlockList();
  try {
    list.addSubnet(range.addressPrefix, prefixLength, isIPv6(range.addressPrefix) ? "ipv6" : "ipv4");
  } catch (cause) {
    throw new ConfigError(`malformed IP address: ${range.addressPrefix}`, { cause });
  }
  return { prefixLength, list };
}

function describeRanges(match: FilterChainMatch | undefined): object {
  const text = (ranges: readonly CidrRange[] | undefined) =>
    (ranges ?? []).map((range) => `${range.addressPrefix}/${range.prefixLen ?? 0}`);
  return {
    destinations: text(match?.prefixRanges),
    directSources: text(match?.directSourcePrefixRanges),
    sources: text(match?.sourcePrefixRanges),
  };
}
