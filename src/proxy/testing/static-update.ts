/** A bootstrap's static resources as the update that the main thread would send; for tests and benchmarks of the workers alone. */
import { createRegistry, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { BootstrapSchema } from "../../api/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "../../api/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../../api/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import { FilterConfigSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { FileAccessLogSchema } from "../../api/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { PreviousHostsPredicateSchema } from "../../api/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { DownstreamTlsContextSchema, UpstreamTlsContextSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "../../api/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { httpFilters } from "../filters/http/index.ts";
import { listenerFilters } from "../filters/listener/index.ts";
import { networkFilters } from "../filters/network/index.ts";
import { makeSharedSessions } from "../tls/tls-sessions.ts";
import type { WorkerData, WorkerUpdate } from "../update.ts";

const registry = createRegistry(
  ...[...httpFilters, ...networkFilters, ...listenerFilters].map((filter) => filter.schema),
  ...httpFilters.flatMap((filter) => (filter.perRoute === undefined ? [] : [filter.perRoute.schema])),
  FileAccessLogSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
  FilterConfigSchema,
  PreviousHostsPredicateSchema,
);

export interface StaticWorker {
  readonly data: WorkerData;
  readonly update: WorkerUpdate;
}

export function staticWorker(yaml: string, options: { readonly index?: number; readonly concurrency?: number } = {}): StaticWorker {
  const bootstrap = fromJson(BootstrapSchema, parse(yaml) as JsonObject, { registry });
  const { clusters = [], listeners = [], secrets = [] } = bootstrap.staticResources ?? {};
  return {
    data: {
      index: options.index ?? 0,
      concurrency: options.concurrency ?? 1,
      bootstrap: toBinary(BootstrapSchema, bootstrap),
      fileFlushIntervalMs: 100,
      drainTimeMs: 5000,
      drainStrategy: "immediate",
      tlsSessions: makeSharedSessions(),
    },
    update: {
      type: "update",
      sequence: 1,
      secrets: secrets.map((secret) => ({ name: secret.name, bytes: toBinary(SecretSchema, secret) })),
      clusters: clusters.map((cluster) => ({ name: cluster.name, bytes: toBinary(ClusterSchema, cluster), isUsedAtOnce: false })),
      endpoints: clusters.flatMap((cluster) =>
        cluster.loadAssignment === undefined
          ? []
          : [{ name: cluster.name, bytes: toBinary(ClusterLoadAssignmentSchema, cluster.loadAssignment) }],
      ),
      listeners: listeners.map((listener) => ({ name: listener.name, bytes: toBinary(ListenerSchema, listener) })),
    },
  };
}
