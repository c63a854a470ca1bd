/** `--mode validate`: everything that can be wrong with a bootstrap and can be known without running it. */
import { ConfigError } from "../../api/config-error.ts";
import type { Bootstrap } from "../../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { TagExtractor } from "../stats/tags.ts";
import { checkStaticAssignment } from "./cluster-manager.ts";
import { resolverOf } from "./dns-resolver.ts";
import { ResourceValidator } from "./resource-validator.ts";

/** Throws ConfigError. */
export function validateBootstrap(
  bootstrap: Bootstrap,
  serviceNode: string,
  serviceCluster: string,
  warn?: (message: string) => void,
): void {
  const { staticResources: resources, node } = bootstrap;
  checkNode(bootstrap, serviceNode || node?.id, serviceCluster || node?.cluster);
  new TagExtractor(bootstrap.statsConfig);
  resolverOf(bootstrap);
  const clusters = new Set((resources?.clusters ?? []).map(({ name }) => name));
  const validator = new ResourceValidator({
    hasCluster: (name) => clusters.has(name),
    ...(warn && { warn }),
  });
  for (const secret of resources?.secrets ?? []) validator.secret(secret);
  for (const cluster of resources?.clusters ?? []) {
    validator.cluster(cluster);
    checkStaticAssignment(cluster);
  }
  for (const listener of resources?.listeners ?? []) {
    if (!listener.address && !listener.listenerSpecifier.case) {
      throw new ConfigError(`error adding listener named '${listener.name}': address is necessary`);
    }
    validator.listener(listener);
  }
}

/** A control plane must know whom it talks to. Throws ConfigError. */
export function checkNode({ dynamicResources: dynamic }: Bootstrap, id: string | undefined, cluster: string | undefined): void {
  if (id && cluster) return;
  const user = dynamic?.adsConfig ? "ads" : dynamic?.cdsConfig ? "cds" : dynamic?.ldsConfig ? "lds" : undefined;
  if (user === undefined) return;
  throw new ConfigError(
    `${user}: node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and --service-cluster options.`,
  );
}
