/**
 * Lists of Kubernetes' own kinds that are more than one value: by message and field, the fields that tell their items apart.
 * Source: the patchMergeKey, patchStrategy, listType and listMapKey marks of k8s.io/api and apimachinery. All others are atomic.
 */
interface ListRule {
  readonly relation: "set" | "map" | "atomic";
  readonly keys: readonly string[];
  /** As in `ListType.patch`. */
  readonly patch?: { readonly key?: string };
}

/** Strategic merge by the first key; server-side apply by all of them. */
function byKeys(...keys: readonly [string, ...string[]]): ListRule {
  return { relation: "map", keys, patch: { key: keys[0] } };
}

/** For server-side apply alone; a strategic merge patch replaces the list. */
function appliedByKeys(...keys: readonly string[]): ListRule {
  return { relation: "map", keys };
}

const set: ListRule = { relation: "set", keys: [] };

export const listRules: Readonly<Record<string, ListRule>> = {
  "Container.env": byKeys("name"),
  "Container.ports": byKeys("containerPort", "protocol"),
  "Container.volumeDevices": byKeys("devicePath"),
  "Container.volumeMounts": byKeys("mountPath"),
  "ContainerRestartRuleOnExitCodes.values": set,
  "ContainerStatus.volumeMounts": byKeys("mountPath"),
  "ContainerStatus.allocatedResourcesStatus": byKeys("name"),
  "DeploymentStatus.conditions": byKeys("type"),
  "Endpoint.addresses": set,
  "EphemeralContainerCommon.env": byKeys("name"),
  "EphemeralContainerCommon.ports": byKeys("containerPort", "protocol"),
  "EphemeralContainerCommon.volumeDevices": byKeys("devicePath"),
  "EphemeralContainerCommon.volumeMounts": byKeys("mountPath"),
  "NamespaceStatus.conditions": byKeys("type"),
  "ObjectMeta.finalizers": { relation: "set", keys: [], patch: {} },
  "ObjectMeta.ownerReferences": byKeys("uid"),
  "PodSpec.containers": byKeys("name"),
  "PodSpec.ephemeralContainers": byKeys("name"),
  "PodSpec.hostAliases": byKeys("ip"),
  "PodSpec.imagePullSecrets": byKeys("name"),
  "PodSpec.initContainers": byKeys("name"),
  "PodSpec.resourceClaims": byKeys("name"),
  "PodSpec.schedulingGates": byKeys("name"),
  "PodSpec.topologySpreadConstraints": byKeys("topologyKey", "whenUnsatisfiable"),
  "PodSpec.volumes": byKeys("name"),
  "PodStatus.conditions": byKeys("type"),
  "PodStatus.hostIPs": { relation: "atomic", keys: [], patch: { key: "ip" } },
  "PodStatus.podIPs": byKeys("ip"),
  "PodStatus.resourceClaimStatuses": byKeys("name"),
  "ResourceRequirements.claims": appliedByKeys("name"),
  "ServiceAccount.secrets": byKeys("name"),
  "ServiceSpec.ports": byKeys("port", "protocol"),
  "ServiceStatus.conditions": byKeys("type"),
  "VolumeMount.bindMountOptions": set,
};

/** Maps that are one value. */
export const atomicMaps: ReadonlySet<string> = new Set(["PodSpec.nodeSelector", "ServiceSpec.selector"]);
