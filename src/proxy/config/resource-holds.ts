/** What a cluster or listener holds while it exists: the route configurations and secrets that it refers to. */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import type { RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import type { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type CertificateSources, certificateSources } from "./certificate-sources.ts";
import type { NamedResources } from "./named-resources.ts";
import { findReferences } from "./references.ts";

export interface ReferenceSources {
  readonly routes: NamedResources<typeof RouteConfigurationSchema>;
  readonly secrets: NamedResources<typeof SecretSchema>;
  /** Names of the bootstrap's own secrets. */
  readonly staticSecrets: ReadonlySet<string>;
  /** A connection manager refers to a route configuration; it counts that under its stat_prefix. */
  readonly onRouteReference: (routeName: string, statPrefix: string) => void;
}

export interface ResourceHolds {
  /** Resolves when everything has come, or was waited for long enough. */
  readonly ready: Promise<void>;
  /** Nothing had to be waited for. */
  readonly isReady: boolean;
  /** Of each of its TLS contexts. */
  readonly certificates: readonly CertificateSources[];
  release(): void;
}

/** Throws ConfigError when something that is referred to can't be had. */
export function holdReferences(desc: DescMessage, message: Message, sources: ReferenceSources): ResourceHolds {
  const { routes, secrets, tlsContexts } = findReferences(desc, message);
  const releases: (() => void)[] = [];
  const waits: Promise<void>[] = [];
  let isReady = true;
  try {
    for (const { rds, statPrefix } of routes) {
      const { routeConfigName, configSource } = rds;
      sources.onRouteReference(routeConfigName, statPrefix);
      const hold = sources.routes.acquire(routeConfigName, configSource);
      releases.push(() => hold.release());
      waits.push(hold.ready);
      isReady &&= hold.current !== undefined;
    }
    for (const { name, sdsConfig } of secrets) {
      if (!sdsConfig) {
        if (!sources.staticSecrets.has(name)) throw new ConfigError(`Unknown static certificate: ${name}`);
        continue;
      }
      const hold = sources.secrets.acquire(name, sdsConfig);
      releases.push(() => hold.release());
      waits.push(hold.ready);
      isReady &&= hold.current !== undefined;
    }
  } catch (error) {
    for (const release of releases) release();
    throw error;
  }
  return {
    ready: Promise.all(waits).then(() => undefined),
    isReady,
    certificates: tlsContexts.map(certificateSources),
    release() {
      for (const release of releases.splice(0)) release();
    },
  };
}
