/** Gateways of several deployments attached to one control plane of ours, each as Envoy and as our proxy, on addresses of their own. */
import { startControlPlane, type TestControlPlane } from "./control-plane.ts";
import { meshBootstrap } from "./mesh-proxy.ts";
import { type RunningProxy, startOurProxy, startRealEnvoy } from "./proxies.ts";

export const sides = ["envoy", "topsail"] as const;
export type Side = (typeof sides)[number];

export interface Deployment {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Default both. */
  readonly sides?: readonly Side[];
}

export interface FleetOptions {
  /** By file. */
  readonly configuration: Readonly<Record<string, string>>;
  readonly meshYaml?: string;
  readonly jwksRefreshMs?: number;
  readonly deployments: readonly Deployment[];
  /** Gateways stand on addresses of it: `127.0.4`. */
  readonly network: string;
}

export class GatewayFleet implements AsyncDisposable {
  readonly controlPlane: TestControlPlane;
  readonly #proxies: ReadonlyMap<string, { readonly proxy: RunningProxy; readonly address: string }>;
  readonly #parts: AsyncDisposableStack;

  private constructor(
    controlPlane: TestControlPlane,
    proxies: ReadonlyMap<string, { readonly proxy: RunningProxy; readonly address: string }>,
    parts: AsyncDisposableStack,
  ) {
    this.controlPlane = controlPlane;
    this.#proxies = proxies;
    this.#parts = parts;
  }

  static async start({ configuration, deployments, network, ...more }: FleetOptions): Promise<GatewayFleet> {
    await using parts = new AsyncDisposableStack();
    const controlPlane = parts.use(await startControlPlane("", { files: configuration, ...more }));
    const problems = (await (await fetch(`${controlPlane.debugUrl}/debug/problems`)).json()) as unknown[];
    if (problems.length > 0) throw new Error(problems.join("\n"));
    const proxies = new Map<string, { readonly proxy: RunningProxy; readonly address: string }>();
    const start = async (deployment: Deployment, side: Side, address: string) => {
      const { name, namespace, labels } = deployment;
      const xds = controlPlane.istiod.grpcPort;
      const node = { type: "router" as const, name: `${name}-${side}`, address, labels, namespace, xds };
      // Certificates come with the configuration: nobody asks for secrets of an agent's.
      const bootstrap = meshBootstrap({ ...node, isDelta: true, sdsPath: "/dev/null" });
      const proxy = parts.use(await (side === "envoy" ? startRealEnvoy(bootstrap) : startOurProxy(bootstrap)));
      proxies.set(`${name}-${side}`, { proxy, address });
    };
    const all = deployments.flatMap((deployment) => (deployment.sides ?? sides).map((side) => ({ deployment, side })));
    await Promise.all(all.map(({ deployment, side }, index) => start(deployment, side, `${network}.${index + 1}`)));
    return new GatewayFleet(controlPlane, proxies, parts.move());
  }

  /** Where the listeners of a deployment are. */
  address(deployment: string, side: Side): string {
    return this.#get(deployment, side).address;
  }

  proxy(deployment: string, side: Side): RunningProxy {
    return this.#get(deployment, side).proxy;
  }

  /** Updates that proxies refused, and what they say of them. Empty when all is well. */
  async rejections(): Promise<string[]> {
    const found = await Promise.all(
      [...this.#proxies].map(async ([name, { proxy }]) => {
        const stats = await proxy.admin("/stats?filter=update_rejected");
        const rejected = stats.split("\n").filter((line) => line !== "" && !line.endsWith(": 0"));
        return rejected.map((line) => `${name}: ${line}\n${proxy.log().slice(-2000)}`);
      }),
    );
    return found.flat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  #get(deployment: string, side: Side) {
    const entry = this.#proxies.get(`${deployment}-${side}`);
    if (!entry) throw new Error(`there is no ${deployment} in ${side}`);
    return entry;
  }
}
