/** The gateway and the workloads of the sample mesh as nodes, and the agent of one of them, with its proxy, in this process. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Agent } from "../agent/agent.ts";
import { readEnvironment } from "../agent/environment.ts";
import { agentPaths } from "../agent/paths.ts";
import { effectiveProxyConfig } from "../agent/proxy-config.ts";
import type { ProxyType } from "../api/node.ts";
import { istioAudience } from "../istiod/ca/service-account-tokens.ts";
import type { Istiod } from "../istiod/istiod.ts";
import type { WorkerThread } from "../proxy/worker-thread.ts";
import type { QuickstartPorts } from "./ports.ts";
import {
  gatewayAccount,
  gatewayLabels,
  gatewayNamespace,
  sampleNamespace,
  workloadLabels,
  workloadName,
  workloads,
} from "./sample-mesh.ts";

export interface MeshNode {
  readonly type: ProxyType;
  readonly name: string;
  readonly namespace: string;
  readonly account: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function meshNodes(): MeshNode[] {
  return [
    {
      type: "router",
      name: gatewayAccount,
      namespace: gatewayNamespace,
      account: gatewayAccount,
      address: "127.0.0.1",
      labels: gatewayLabels,
    },
    ...workloads.map(
      (workload): MeshNode => ({
        type: "sidecar",
        name: workloadName(workload),
        namespace: sampleNamespace,
        account: workload.service,
        address: workload.address,
        labels: workloadLabels(workload),
      }),
    ),
  ];
}

export interface MeshAgentOptions {
  readonly istiod: Istiod;
  readonly ports: QuickstartPorts;
  /** Directory in which the agent gets one of its own. */
  readonly scratch: string;
  /** Of all proxies of the mesh. */
  readonly workerThreads: readonly WorkerThread[];
}

export async function startAgent(node: MeshNode, { istiod, ports, scratch, workerThreads }: MeshAgentOptions): Promise<Agent> {
  const root = join(scratch, node.name);
  await writeCredentials(node, istiod, root);
  return Agent.start({
    type: node.type,
    environment: readEnvironment({
      POD_NAME: node.name,
      POD_NAMESPACE: node.namespace,
      SERVICE_ACCOUNT: node.account,
      INSTANCE_IP: node.address,
      TOPSAIL_BIND_ADDRESS: node.address,
      ENVOY_STATUS_PORT: String(ports.ready),
      ENVOY_PROMETHEUS_PORT: String(ports.stats),
      ...(node.type === "sidecar" ? { ISTIO_META_INTERCEPTION_MODE: "NONE" } : {}),
      ISTIO_META_WORKLOAD_NAME: node.name,
      ISTIO_META_CLUSTER_ID: "Kubernetes",
      ISTIO_METAJSON_LABELS: JSON.stringify(labelsOf(node)),
    }),
    proxyConfig: effectiveProxyConfig(
      undefined,
      JSON.stringify({
        configPath: join(root, "proxy"),
        discoveryAddress: `127.0.0.1:${ports.secureXds}`,
        proxyAdminPort: ports.admin,
        statusPort: ports.status,
        concurrency: 1,
        drainDuration: "5s",
      }),
    ),
    root,
    addresses: [node.address],
    usesBinary: false,
    concurrency: 0,
    workerThreads,
    logLevel: "warning",
    statusHost: node.address,
  });
}

/** With those by which metrics name a workload, whichever way it calls itself. Istio's injector and its VM onboarding write them. */
function labelsOf({ labels }: MeshNode): Record<string, string> {
  return {
    ...labels,
    "service.istio.io/canonical-name": labels.app ?? "",
    "service.istio.io/canonical-revision": labels.version ?? "latest",
  };
}

/** What an agent needs to begin: the root by which it knows the control plane, and a token by which it is known. */
async function writeCredentials({ namespace, account }: MeshNode, { secure }: Istiod, root: string): Promise<void> {
  const paths = agentPaths(root);
  const { token } = await secure!.tokens.issue({ namespace, serviceAccount: account }, [istioAudience], 24 * 3600);
  for (const [path, content] of [
    [paths.token, token],
    [paths.root, secure!.authority.trustBundle],
  ] as const) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(path, content, { mode: 0o600 });
  }
}
