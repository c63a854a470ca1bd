/** The sockets that an agent serves to its proxy: the control plane and the certificates, both by way of this agent. */
import { join } from "node:path";
import type { ProxyConfig } from "../api/mesh/proxy-config.ts";
import type { ProxySockets } from "./bootstrap.ts";
import { type Access, controlPlaneAccess } from "./certificates/control-plane-access.ts";
import { mountedFiles } from "./certificates/mounted-files.ts";
import { Revocations } from "./certificates/revocations.ts";
import { SdsServer } from "./certificates/sds-server.ts";
import { openWorkloadIdentity } from "./certificates/workload-identity.ts";
import type { WorkloadSecrets } from "./certificates/workload-secrets.ts";
import type { CurrentNode } from "./current-node.ts";
import type { DnsProxy } from "./dns/dns-proxy.ts";
import type { AgentEnvironment } from "./environment.ts";
import { ControlPlaneChoice } from "./last-good/control-plane-choice.ts";
import type { LastGoodConfig } from "./last-good/last-good-config.ts";
import { OfflineControlPlane } from "./last-good/offline-control-plane.ts";
import type { AgentPaths } from "./paths.ts";
import type { Troubles } from "./troubles.ts";
import { XdsProxy } from "./xds-proxy.ts";

export interface SocketsOptions {
  readonly config: ProxyConfig;
  readonly environment: AgentEnvironment;
  readonly paths: AgentPaths;
  readonly node: CurrentNode;
  readonly troubles: Troubles;
  readonly dns: DnsProxy | undefined;
  /** Whoever answers on the socket of the workload's certificate is somebody else. */
  readonly mayBeServedIdentity: boolean;
  readonly lastGood: LastGoodConfig;
  /** Ended before the sockets are. */
  readonly voice: AsyncDisposableStack;
}

export interface Sockets extends Omit<ProxySockets, "credentials"> {
  readonly xdsProxy: XdsProxy;
  readonly choice: ControlPlaneChoice;
  /** Whether there is a certificate of the workload's, or none is needed. */
  readonly hasCertificate: () => boolean;
  /** The workload's certificate comes by a socket of this process. */
  readonly servesIdentity: boolean;
  /** How the control plane is called. */
  readonly access: () => Promise<Access>;
}

export async function startSockets(
  { config, environment, paths, node, troubles, dns, mayBeServedIdentity, lastGood, voice }: SocketsOptions,
  parts: AsyncDisposableStack,
): Promise<Sockets> {
  const plaintext = config.controlPlaneAuthPolicy === "NONE";
  const { fileDebounceMs: fileQuietMs } = environment;
  const { caAddress, caRoot, caHeaders, istiodName, xdsRoot, xdsHeaders } = environment;
  const mounted = environment.fileMountedCerts ? mountedFiles(node.metadata, paths.mountedFiles) : undefined;
  const common = { environment, paths, plaintext, mounted };
  // The control plane's name is not that of another authority.
  const authority = { address: caAddress ?? config.discoveryAddress, rootFile: caRoot, serverName: caAddress ? undefined : istiodName };
  const { secrets, socket, isServedElsewhere } = await openWorkloadIdentity({
    ...common,
    nodeId: node.id,
    troubles,
    mayBeServed: mayBeServedIdentity,
    access: (present) => controlPlaneAccess({ ...common, ...authority, headers: caHeaders, present }),
  });
  if (secrets) voice.use(secrets);
  const revocations = parts.use(new Revocations(paths.crl, environment.fileDebounceMs));
  const files = isServedElsewhere ? paths.filesSds : socket;
  parts.use(await SdsServer.start({ path: files, secrets: isServedElsewhere ? undefined : secrets, revocations, fileQuietMs }));
  const { access: lastGoodAccess } = parts.use(await OfflineControlPlane.start(join(config.configPath, "LAST-GOOD"), lastGood));
  const controlPlane = { address: config.discoveryAddress, rootFile: xdsRoot, serverName: istiodName, headers: xdsHeaders };
  const present = (): WorkloadSecrets | undefined => secrets?.current;
  const access = () => controlPlaneAccess({ ...common, ...controlPlane, present });
  const choice = new ControlPlaneChoice({ access, lastGood, lastGoodAccess });
  const xds = join(config.configPath, "XDS");
  const xdsProxy = parts.use(
    await XdsProxy.start({
      path: xds,
      node,
      upstream: choice,
      lastGood,
      onTrust: (update) => {
        revocations.take(update.revocations);
        secrets?.trust(update.roots);
      },
      onNameTable: dns && ((table) => dns.update(table)),
      hasNoProxy: environment.hasNoProxy,
    }),
  );
  const hasCertificate = () => secrets === undefined || secrets.current !== undefined;
  return { xds, workload: socket, files, xdsProxy, choice, access, hasCertificate, servesIdentity: !isServedElsewhere };
}
