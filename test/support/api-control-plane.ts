/** A real control plane that serves the Kubernetes-compatible API, on any ports, with directories of its own that go with it. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Istiod } from "../../src/istiod/istiod.ts";
import { type Kubeconfig, readKubeconfig } from "./kube-api.ts";

export interface ApiControlPlane extends AsyncDisposable {
  readonly istiod: Istiod;
  readonly config: Kubeconfig;
  readonly kubeconfig: string;
  /** Of the configuration that is in files. */
  readonly configDir: string;
}

const loopback = { host: "127.0.0.1", port: 0 };

/** `files`: configuration that is there from the start, by name. */
export async function startApiControlPlane(files: Readonly<Record<string, string>> = {}): Promise<ApiControlPlane> {
  await using parts = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "topsail-api-"));
  parts.defer(() => rm(directory, { recursive: true, force: true }));
  const configDir = join(directory, "config");
  const kubeconfig = join(directory, "kubeconfig");
  await mkdir(configDir);
  for (const [name, text] of Object.entries(files)) await writeFile(join(configDir, name), text);
  const istiod = parts.use(
    await Istiod.start({
      configDir,
      dataDir: join(directory, "data"),
      grpc: loopback,
      secureGrpc: loopback,
      kubeApi: loopback,
      kubeconfigOut: kubeconfig,
      monitoring: loopback,
      domain: "cluster.local",
      debounceQuietMs: 20,
    }),
  );
  const moved = parts.move();
  return { istiod, configDir, kubeconfig, config: readKubeconfig(kubeconfig), [Symbol.asyncDispose]: () => moved.disposeAsync() };
}
