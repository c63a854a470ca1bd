/** The API put together: what it serves, what it keeps in order, and how its first user gets in. */
import { AggregateStore } from "../../config/aggregate.ts";
import type { WritableConfigStore } from "../../config/store.ts";
import type { HostPort } from "../../lib/host-port.ts";
import { AgentPods } from "../agents/agent-pods.ts";
import { monitoringPage } from "../debug/monitoring-pages.ts";
import type { DiscoveryServer } from "../discovery-server.ts";
import type { MeshSource } from "../mesh-source.ts";
import type { SecurePort } from "../secure-port.ts";
import { openClientAuthority, writeKubeconfig } from "./admin-access.ts";
import { ClusterAddresses } from "./admission/cluster-addresses.ts";
import { keepControlPlaneService } from "./controllers/control-plane-service.ts";
import { DeploymentStatus } from "./controllers/deployment-status.ts";
import { expireEvents } from "./controllers/event-expiry.ts";
import { GarbageCollector } from "./controllers/garbage-collector.ts";
import { IngressStatus } from "./controllers/ingress-status.ts";
import { MeshConfigMaps } from "./controllers/mesh-config-maps.ts";
import { NamespaceController } from "./controllers/namespace-controller.ts";
import { ObjectEvents } from "./object-events.ts";
import { KubeApiServer } from "./server.ts";
import { ListPages } from "./verbs/list-pages.ts";

export interface KubeApiStartOptions {
  /** Port 0 is any. */
  readonly address: HostPort;
  readonly store: WritableConfigStore;
  readonly discovery: DiscoveryServer;
  readonly secure: SecurePort;
  /** Where the secure port listens; "" for all addresses. */
  readonly secureHost: string;
  readonly mesh: MeshSource<unknown>;
  readonly networks: MeshSource<unknown>;
  readonly dataDir: string | undefined;
  /** Where the kubeconfig of an administrator is written. */
  readonly kubeconfigOut: string | undefined;
  /** Of the addresses of Services; see `isServiceRange`. */
  readonly serviceRange: string;
}

/** Resolves with the port and what ends it. */
export async function startKubeApi(options: KubeApiStartOptions): Promise<AsyncDisposable & { readonly port: number }> {
  const { address, store, discovery, secure, mesh, networks, dataDir, kubeconfigOut } = options;
  await using parts = new AsyncDisposableStack();
  const pods = parts.use(new AgentPods(discovery));
  const shown = parts.use(new AggregateStore([store, pods.store], store, { ownsSources: false }));
  const events = parts.use(new ObjectEvents(shown));
  const namespaces = parts.use(await NamespaceController.start(store, secure.authority));
  parts.use(await MeshConfigMaps.start(store, mesh, networks));
  parts.use(new DeploymentStatus(shown));
  parts.use(new IngressStatus(shown, () => discovery.mesh, mesh));
  parts.use(new GarbageCollector(store));
  parts.use(expireEvents(store));
  const addresses = new ClusterAddresses(store, options.serviceRange);
  const clientAuthority = await openClientAuthority(dataDir);
  const server = parts.use(
    await KubeApiServer.start({
      ...address,
      identity: secure.identity,
      clientRoots: clientAuthority.trustBundle,
      context: {
        store: shown,
        events,
        pages: new ListPages(),
        tokens: secure.tokens,
        addresses,
        targets: {
          relays: secure.relays,
          controlPlanePod: pods.controlPlane,
          systemNamespace: () => discovery.mesh.rootNamespace,
          controlPlanePage: (path, query) => monitoringPage(discovery, path, query),
        },
        namespacesSettled: () => namespaces.settled(),
      },
    }),
  );
  await keepControlPlaneService(store, addresses, {
    secure: { host: options.secureHost, port: secure.port },
    kubeApi: { host: address.host, port: server.port },
  });
  if (kubeconfigOut) {
    const { host } = address;
    await writeKubeconfig({ path: kubeconfigOut, host, port: server.port, clientAuthority, serverRoots: secure.authority.trustBundle });
  }
  const moved = parts.move();
  return { port: server.port, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}
