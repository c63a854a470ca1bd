/**
 * What configuration is compiled against. The same compile functions run in a worker, where their results carry traffic, and
 * in the main thread, where only the errors count: they throw ConfigError, open no socket and start no timer.
 *
 *      compileListener(Listener, context)                  listener/listener.ts
 *      compileCluster(Cluster, context)                    upstream/cluster-config.ts
 *      compileRouteConfiguration(RouteConfiguration, ...)  router/route-table.ts
 *      compileSecret(Secret)                               tls/secret.ts
 */
import type { Any } from "@bufbuild/protobuf/wkt";
import type { AccessLogContext } from "./accesslog/access-log.ts";
import type { RouteTable } from "./router/route-table.ts";
import type { SharedCells } from "./shared-cells.ts";
import type { StatsStore } from "./stats/store.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";
import type { SecretStore } from "./tls/secret.ts";
import type { TlsSessions } from "./tls/tls-sessions.ts";
import type { ClusterLookup } from "./upstream/cluster-set.ts";

export interface CompileContext {
  readonly stats: StatsStore;
  readonly accessLog: AccessLogContext;
  /** The running clusters, by name; looked up per request, so that a route may name one that comes later. */
  readonly clusters: ClusterLookup;
  /** Route configurations by RDS name; looked up per request. */
  readonly routes: ReadonlyMap<string, RouteTable>;
  readonly secrets: SecretStore;
  readonly tlsSessions: TlsSessions;
  /** Node.id and Node.cluster of the bootstrap. */
  readonly nodeId: string;
  readonly nodeCluster: string;
  readonly telemetry: Telemetry;
  /** Numbers that all workers share. */
  readonly cells: SharedCells;
  /** Something odd that is accepted all the same. */
  warn(message: string): void;
  /** `typed_per_filter_config`, by filter name. */
  compilePerFilterConfig(config: { readonly [name: string]: Any }): ReadonlyMap<string, unknown>;
}
