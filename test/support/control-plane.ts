/** A real control plane on any port, configured by a directory of its own that goes with it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Istiod } from "../../src/istiod/istiod.ts";

export interface TestControlPlane extends AsyncDisposable {
  readonly istiod: Istiod;
  readonly directory: string;
  /** `127.0.0.1:PORT` of plaintext xDS. */
  readonly address: string;
  readonly debugUrl: string;
  /** Writes a file of the configuration directory and returns at once. */
  write(name: string, yaml: string): Promise<void>;
}

export interface ControlPlaneOptions {
  readonly debounceQuietMs?: number;
  readonly meshYaml?: string;
  readonly jwksRefreshMs?: number;
  /** More files that are there from the start, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

export async function startControlPlane(yaml: string, options: ControlPlaneOptions = {}): Promise<TestControlPlane> {
  await using parts = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "topsail-test-"));
  parts.defer(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, "mesh.yaml"), yaml);
  await writeFile(join(directory, "mesh-config.yaml"), options.meshYaml ?? "");
  for (const [name, text] of Object.entries(options.files ?? {})) await writeFile(join(directory, name), text);
  const istiod = parts.use(
    await Istiod.start({
      configDir: directory,
      meshConfig: join(directory, "mesh-config.yaml"),
      grpc: { host: "127.0.0.1", port: 0 },
      monitoring: { host: "127.0.0.1", port: 0 },
      domain: "cluster.local",
      debounceQuietMs: options.debounceQuietMs ?? 20,
      ...(options.jwksRefreshMs === undefined ? {} : { jwksRefreshMs: options.jwksRefreshMs }),
    }),
  );
  const moved = parts.move();
  return {
    istiod,
    directory,
    address: `127.0.0.1:${istiod.grpcPort}`,
    debugUrl: `http://127.0.0.1:${istiod.monitoringPort}`,
    write: (name, text) => writeFile(join(directory, name), text),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
