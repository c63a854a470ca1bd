/** How a cluster chooses among its endpoints: `lb_policy` with `lb_config`, or `load_balancing_policy`, checked and with defaults filled in. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import { resolveTypedStruct } from "../../api/envoy/typed-struct.ts";
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type Cluster as ClusterMessage,
  Cluster_RingHashLbConfig_HashFunction as LegacyHashFunction,
} from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { RuntimeDouble } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import type {
  ConsistentHashingLbConfig,
  LocalityLbConfig,
} from "../../api/gen/envoy/extensions/load_balancing_policies/common/v3/common_pb.js";
import {
  LeastRequest_SelectionMethod,
  LeastRequestSchema,
} from "../../api/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { MaglevSchema } from "../../api/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { RandomSchema } from "../../api/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import { RingHash_HashFunction, RingHashSchema } from "../../api/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "../../api/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { isPrime } from "../../lib/prime.ts";
import { compileHashPolicy, type HashPolicy } from "../router/hash-policy.ts";
import type { RingOptions } from "./hash-ring.ts";
import type { MaglevOptions } from "./maglev-table.ts";
import { compileSlowStart, type SlowStart } from "./slow-start.ts";

export type LoadBalancerPolicy =
  | { readonly kind: "roundRobin"; readonly slowStart: SlowStart | null }
  | {
      readonly kind: "leastRequest";
      /** So many hosts are drawn, and the one with the fewest requests taken; Infinity: all are looked at. */
      readonly choices: number;
      readonly activeRequestBias: number;
      readonly slowStart: SlowStart | null;
    }
  | { readonly kind: "random" }
  | (Hashing & { readonly kind: "ringHash" } & RingOptions)
  | (Hashing & { readonly kind: "maglev" } & MaglevOptions);

interface Hashing {
  /** Percent of its share of requests that a host has at most; 0: as many as come. */
  readonly balanceFactor: number;
  /** Stands for the route's; empty: the route's counts. */
  readonly hashPolicy: HashPolicy;
}

export interface LoadBalancing {
  readonly policy: LoadBalancerPolicy;
  /** Localities have their share by weight. */
  readonly weighsLocalities: boolean;
  readonly failsOnPanic: boolean;
}

const defaultRingSize = 1024n;
const largestRingSize = 8_388_608n;

const discoveryNames: Readonly<Record<Cluster_DiscoveryType, string>> = {
  [Cluster_DiscoveryType.STATIC]: "envoy.cluster.static",
  [Cluster_DiscoveryType.STRICT_DNS]: "envoy.cluster.strict_dns",
  [Cluster_DiscoveryType.LOGICAL_DNS]: "envoy.cluster.logical_dns",
  [Cluster_DiscoveryType.EDS]: "envoy.cluster.eds",
  [Cluster_DiscoveryType.ORIGINAL_DST]: "envoy.cluster.original_dst",
};

export function compileLoadBalancing(message: ClusterMessage): LoadBalancing {
  const discovery = message.clusterDiscoveryType.case === "type" ? message.clusterDiscoveryType.value : Cluster_DiscoveryType.STATIC;
  if (message.commonLbConfig?.consistentHashingLbConfig?.useHostnameForHashing && discovery !== Cluster_DiscoveryType.STRICT_DNS) {
    const name = discoveryNames[discovery];
    throw new ConfigError(`Cannot use hostname for consistent hashing loadbalancing for cluster of type: '${name}'`);
  }
  if (message.loadBalancingPolicy !== undefined) return compileExtension(message);
  const common = message.commonLbConfig;
  const locality = common?.localityConfigSpecifier;
  return {
    policy: compileNamed(message),
    weighsLocalities: locality?.case === "localityWeightedLbConfig",
    failsOnPanic: locality?.case === "zoneAwareLbConfig" && locality.value.failTrafficOnPanic,
  };
}

function compileNamed({ name, lbPolicy, lbConfig, commonLbConfig }: ClusterMessage): LoadBalancerPolicy {
  const hashing = commonLbConfig?.consistentHashingLbConfig;
  switch (lbPolicy) {
    case Cluster_LbPolicy.ROUND_ROBIN:
      return {
        kind: "roundRobin",
        slowStart: compileSlowStart(lbConfig.case === "roundRobinLbConfig" ? lbConfig.value.slowStartConfig : undefined),
      };
    case Cluster_LbPolicy.LEAST_REQUEST: {
      const config = lbConfig.case === "leastRequestLbConfig" ? lbConfig.value : undefined;
      return leastRequest(config, false);
    }
    case Cluster_LbPolicy.RANDOM:
    case Cluster_LbPolicy.CLUSTER_PROVIDED:
      return { kind: "random" };
    case Cluster_LbPolicy.RING_HASH: {
      const config = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
      const isMurmur = config?.hashFunction === LegacyHashFunction.MURMUR_HASH_2;
      return ringHash(config, isMurmur, hashing);
    }
    case Cluster_LbPolicy.MAGLEV:
      return maglev(lbConfig.case === "maglevLbConfig" ? lbConfig.value.tableSize : undefined, hashing);
    case Cluster_LbPolicy.LOAD_BALANCING_POLICY_CONFIG:
      throw new ConfigError("cluster: field load_balancing_policy need to be set");
    default:
      throw new ConfigError(`cluster ${name}: lb_policy ${Cluster_LbPolicy[lbPolicy] ?? lbPolicy} is not supported`);
  }
}

const policyPrefix = "envoy.extensions.load_balancing_policies.";

/** The first policy of the list that is known counts; its own settings hold, and none of `common_lb_config` for localities. */
function compileExtension(message: ClusterMessage): LoadBalancing {
  for (const { typedExtensionConfig } of message.loadBalancingPolicy?.policies ?? []) {
    const any = typedExtensionConfig?.typedConfig && resolveTypedStruct(typedExtensionConfig.typedConfig);
    const typeName = any?.typeUrl.replace(/^.*\//, "") ?? "";
    if (any === undefined || !typeName.startsWith(policyPrefix)) continue;
    switch (typeName.slice(policyPrefix.length).split(".")[0]) {
      case "round_robin": {
        const config = anyUnpack(any, RoundRobinSchema)!;
        return {
          policy: { kind: "roundRobin", slowStart: compileSlowStart(config.slowStartConfig) },
          ...localities(config.localityLbConfig),
        };
      }
      case "least_request": {
        const config = anyUnpack(any, LeastRequestSchema)!;
        const isFull = config.selectionMethod === LeastRequest_SelectionMethod.FULL_SCAN;
        return { policy: leastRequest(config, isFull), ...localities(config.localityLbConfig) };
      }
      case "random":
        return { policy: { kind: "random" }, ...localities(anyUnpack(any, RandomSchema)!.localityLbConfig) };
      case "ring_hash": {
        const config = anyUnpack(any, RingHashSchema)!;
        const isMurmur = config.hashFunction === RingHash_HashFunction.MURMUR_HASH_2;
        const policy = ringHash(config, isMurmur, config.consistentHashingLbConfig ?? config);
        return { policy, weighsLocalities: config.localityWeightedLbConfig !== undefined, failsOnPanic: false };
      }
      case "maglev": {
        const config = anyUnpack(any, MaglevSchema)!;
        const policy = maglev(config.tableSize, config.consistentHashingLbConfig);
        return { policy, weighsLocalities: config.localityWeightedLbConfig !== undefined, failsOnPanic: false };
      }
    }
  }
  throw new ConfigError(`cluster: didn't find a registered load balancer factory in '${message.name}'`);
}

function localities(config: LocalityLbConfig | undefined): Omit<LoadBalancing, "policy"> {
  const specifier = config?.localityConfigSpecifier;
  return {
    weighsLocalities: specifier?.case === "localityWeightedLbConfig",
    failsOnPanic: specifier?.case === "zoneAwareLbConfig" && specifier.value.failTrafficOnPanic,
  };
}

interface LeastRequestMessage {
  readonly choiceCount?: number | undefined;
  readonly activeRequestBias?: RuntimeDouble | undefined;
  readonly slowStartConfig?: Parameters<typeof compileSlowStart>[0];
}

function leastRequest(config: LeastRequestMessage | undefined, looksAtAll: boolean): LoadBalancerPolicy {
  const bias = config?.activeRequestBias?.defaultValue ?? 1;
  return {
    kind: "leastRequest",
    choices: looksAtAll ? Number.POSITIVE_INFINITY : (config?.choiceCount ?? 2),
    activeRequestBias: bias >= 0 ? bias : 1,
    slowStart: compileSlowStart(config?.slowStartConfig),
  };
}

type HashingMessage = Partial<Pick<ConsistentHashingLbConfig, "useHostnameForHashing" | "hashBalanceFactor" | "hashPolicy">> | undefined;

interface RingSizes {
  readonly minimumRingSize?: bigint | undefined;
  readonly maximumRingSize?: bigint | undefined;
}

function ringHash(sizes: RingSizes | undefined, isMurmur: boolean, hashing: HashingMessage): LoadBalancerPolicy {
  const minimum = sizes?.minimumRingSize ?? defaultRingSize;
  const maximum = sizes?.maximumRingSize ?? largestRingSize;
  if (minimum > maximum) throw new ConfigError(`ring hash: minimum_ring_size (${minimum}) > maximum_ring_size (${maximum})`);
  return {
    kind: "ringHash",
    minimumSize: Number(minimum),
    maximumSize: Number(maximum),
    hashFunction: isMurmur ? "murmurHash2" : "xxHash",
    ...common(hashing),
  };
}

function maglev(size: bigint | undefined, hashing: HashingMessage): LoadBalancerPolicy {
  const tableSize = Number(size ?? 65_537n);
  if (!isPrime(tableSize)) throw new ConfigError("The table size of maglev must be prime number");
  return { kind: "maglev", tableSize, ...common(hashing) };
}

function common(hashing: HashingMessage): Hashing & { usesHostname: boolean } {
  return {
    usesHostname: hashing?.useHostnameForHashing ?? false,
    balanceFactor: hashing?.hashBalanceFactor ?? 0,
    hashPolicy: compileHashPolicy(hashing?.hashPolicy ?? []),
  };
}
