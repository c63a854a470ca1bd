/**
 * The /debug pages, by name: what the control plane knows and what it told whom. JSON with the field names of Istio's where
 * istioctl reads them. Source: Istio pilot/pkg/xds/debug.go.
 */

import { AnySchema } from "@bufbuild/protobuf/wkt";
import { writeJson } from "../../api/envoy/write-json.ts";
import { typeUrls } from "../../api/type-urls.ts";
import { serviceKey } from "../../registry/service.ts";
import type { Connected, DiscoveryServer } from "../discovery-server.ts";
import { shortType } from "../metrics.ts";
import { generatorFor } from "../xds/generators.ts";
import { providerConflicts } from "../xds/policy-problems.ts";

/** A request that can't be answered; becomes the status. */
export class DebugError extends Error {
  override readonly name = "DebugError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

type Handler = (server: DiscoveryServer, query: URLSearchParams) => unknown;

interface DebugPage {
  readonly help: string;
  readonly handle: Handler;
}

export const debugPages: Readonly<Record<string, DebugPage>> = {
  adsz: { help: "Connected proxies and what they are subscribed to; ?push=true pushes everything to all", handle: adsz },
  clusterz: { help: "Clusters (registries) that this control plane reads", handle: clusterz },
  config_dump: { help: "All that a proxy is to have: ?proxyID=ID", handle: configDump },
  configz: { help: "All configuration objects as they were written", handle: (server) => server.store.list().map((object) => object.raw) },
  connections: { help: "Connected proxies", handle: connections },
  edsz: {
    help: "Endpoints as sent to a proxy: ?proxyID=ID",
    handle: (server, query) => resourcesOf(server, proxyOf(server, query), typeUrls.eds),
  },
  endpointz: { help: "Endpoints of every service", handle: endpointz },
  list: { help: "This list", handle: () => Object.entries(debugPages).map(([name, { help }]) => ({ name: `/debug/${name}`, help })) },
  mesh: { help: "Mesh configuration in force", handle: (server) => server.mesh },
  ndsz: {
    help: "DNS names as sent to a proxy's agent: ?proxyID=ID",
    handle: (server, query) => resourcesOf(server, proxyOf(server, query), typeUrls.nds),
  },
  problems: { help: "Configuration that could not be taken, with file and line", handle: problems },
  push_status: {
    help: "Last push: counts, conflicts, what stands in the way of policies, what became of patches, and configuration that is not translated",
    handle: pushStatus,
  },
  registryz: { help: "Services of the registry", handle: registryz },
  resourcesz: { help: "Resource names that every proxy watches", handle: adsz },
  syncz: { help: "What every proxy was sent and acknowledged; ?namespace= of one namespace", handle: syncz },
};

function syncz(server: DiscoveryServer, query: URLSearchParams) {
  const namespace = query.get("namespace");
  const shown = namespace ? server.connected.filter(({ proxy }) => proxy.namespace === namespace) : server.connected;
  return shown.map(({ proxy, connection }) => ({
    cluster_id: proxy.clusterId,
    proxy: proxy.id,
    proxy_type: proxy.type,
    proxy_namespace: proxy.namespace,
    istio_version: proxy.istioVersion,
    ...Object.fromEntries(
      (["cds", "eds", "lds", "rds", "sds", "ecds"] as const).flatMap((short) => {
        const watch = connection.subscriptions.watches.get(typeUrls[short]);
        const prefix = shortNames[short];
        if (!watch) return [];
        return [
          [`${prefix}_sent`, watch.nonceSent],
          [`${prefix}_acked`, watch.nonceAcked],
          ...(watch.lastError === undefined ? [] : [[`${prefix}_error`, watch.lastError]]),
        ];
      }),
    ),
    resources: Object.fromEntries(
      [...connection.subscriptions.watches.values()].map((watch) => [
        watch.typeUrl,
        {
          sent: watch.nonceSent || undefined,
          acked: watch.nonceAcked || undefined,
          sentTime: watch.sentAt === undefined ? undefined : new Date(watch.sentAt).toISOString(),
          lastError: watch.lastError,
        },
      ]),
    ),
  }));
}

const shortNames = { cds: "cluster", eds: "endpoint", lds: "listener", rds: "route", sds: "secret", ecds: "extensionconfig" } as const;

function adsz(server: DiscoveryServer, query: URLSearchParams) {
  if (query.get("push") === "true") {
    server.pushAll();
    return { pushed: server.connected.length };
  }
  return {
    totalClients: server.connected.length,
    clients: server.connected.map((entry) => ({
      connectionId: entry.id,
      connectedAt: entry.connectedAt.toISOString(),
      address: entry.peer.address,
      protocol: entry.connection.kind,
      labels: entry.proxy.labels,
      watches: Object.fromEntries(
        [...entry.connection.subscriptions.watches.values()].map((watch) => [
          shortType(watch.typeUrl),
          { wildcard: watch.isWildcard, names: [...watch.names].sort(), resources: [...watch.held.names].sort() },
        ]),
      ),
    })),
  };
}

function connections(server: DiscoveryServer) {
  return server.connected.map(({ id, connectedAt, peer }) => ({
    connectionId: id,
    connectedAt: connectedAt.toISOString(),
    address: peer.address,
  }));
}

function registryz(server: DiscoveryServer) {
  return server.context.registry.services.map(({ visibility, ...service }) => ({
    ...service,
    exportTo: visibility.kind === "namespaces" ? [...visibility.namespaces] : visibility.kind === "public" ? ["*"] : ["~"],
  }));
}

function endpointz(server: DiscoveryServer) {
  const { registry } = server.context;
  return registry.services.map((service) => ({ svc: serviceKey(service.host, service.namespace), ep: registry.endpoints(service) }));
}

function clusterz(server: DiscoveryServer) {
  return [{ id: "Kubernetes", syncStatus: server.isReady ? "synced" : "initializing", secretName: "", store: server.store.name }];
}

function pushStatus(server: DiscoveryServer) {
  const { context } = server;
  return {
    version: context.version,
    services: context.registry.services.length,
    virtualServices: context.virtualServices.all.length,
    untranslated: server.untranslated,
    policyProblems: server.policyProblems,
    envoyFilters: context.envoyFilters.objects.map((object) => ({
      name: `${object.metadata.namespace}/${object.metadata.name}`,
      patches: server.patchStatus.describe(object),
    })),
    gatewayConflicts: server.gatewayConflicts(),
    providerConflicts: providerConflicts(
      server.connected.map(({ proxy }) => proxy),
      context,
    ),
  };
}

function problems(server: DiscoveryServer) {
  return server.store.problems.map((problem) => problem.describe());
}

function configDump(server: DiscoveryServer, query: URLSearchParams) {
  const entry = proxyOf(server, query);
  return {
    configs: (["cds", "lds", "rds", "eds", "ecds"] as const).map((short) => ({
      type: typeUrls[short],
      resources: resourcesOf(server, entry, typeUrls[short]),
    })),
  };
}

/** By generating once more: what the proxy would get now, in full. Secrets are left out, they hold keys. */
function resourcesOf(server: DiscoveryServer, { proxy, connection }: Connected, typeUrl: string): unknown[] {
  const watch = connection.subscriptions.watches.get(typeUrl);
  if (!watch) return [];
  const resources = generatorFor(proxy, typeUrl)?.({ proxy, push: server.context, onProblem: () => {} }, watch, undefined) ?? [];
  return resources.map((resource) =>
    writeJson(AnySchema, { $typeName: "google.protobuf.Any", typeUrl: resource.typeUrl, value: resource.bytes }),
  );
}

/** By connection id, proxy id or node id; any that is unique will do. */
function proxyOf(server: DiscoveryServer, query: URLSearchParams): Connected {
  const wanted = query.get("proxyID");
  if (!wanted) throw new DebugError(400, "which proxy? Give its id as ?proxyID=");
  const found = server.connected.find(({ id, proxy }) => id === wanted || proxy.id === wanted || proxy.nodeId === wanted);
  if (!found) throw new DebugError(404, `no proxy "${wanted}" is connected here`);
  return found;
}
