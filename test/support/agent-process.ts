/** pilot-agent in a directory of its own, against a control plane of the test's, on ports of the test's. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Istiod } from "../../src/istiod/istiod.ts";
import { TopsailProcess } from "./topsail.ts";

export interface AgentProcessOptions {
  readonly istiod: Istiod;
  readonly directory: string;
  readonly account: { readonly namespace: string; readonly serviceAccount: string };
  readonly ports: { readonly admin: number; readonly status: number; readonly ready: number; readonly stats: number };
  readonly type: "router" | "sidecar";
  readonly env?: Readonly<Record<string, string>>;
  readonly proxyConfig?: Readonly<Record<string, unknown>>;
  readonly flags?: readonly string[];
}

export function startAgent(options: AgentProcessOptions): TopsailProcess {
  const { istiod, directory, account, ports, type, env = {}, proxyConfig = {}, flags = [] } = options;
  return new TopsailProcess(["pilot-agent", "proxy", type, ...flags], {
    cwd: directory,
    env: {
      PATH: process.env.PATH ?? "",
      POD_NAME: "web",
      POD_NAMESPACE: account.namespace,
      SERVICE_ACCOUNT: account.serviceAccount,
      INSTANCE_IP: "127.0.0.1",
      TOPSAIL_BIND_ADDRESS: "127.0.0.1",
      ENVOY_STATUS_PORT: String(ports.ready),
      ENVOY_PROMETHEUS_PORT: String(ports.stats),
      PROXY_CONFIG: JSON.stringify({
        discoveryAddress: `127.0.0.1:${istiod.secure!.port}`,
        proxyAdminPort: ports.admin,
        statusPort: ports.status,
        configPath: join(directory, "proxy"),
        concurrency: 1,
        terminationDrainDuration: "1s",
        ...proxyConfig,
      }),
      ...env,
    },
  });
}

/** By which the agent proves who it is, and knows the control plane. */
export async function provideToken({
  istiod,
  directory,
  account,
}: Pick<AgentProcessOptions, "istiod" | "directory" | "account">): Promise<void> {
  const { token } = await istiod.secure!.tokens.issue(account, ["istio-ca"], 600);
  placeFile(directory, "var/run/secrets/tokens/istio-token", token);
  placeFile(directory, "var/run/secrets/istio/root-cert.pem", istiod.secure!.authority.trustBundle);
}

/** Its path. */
export function placeFile(directory: string, file: string, text: string): string {
  const path = join(directory, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}
