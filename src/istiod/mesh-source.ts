/**
 * Where the mesh's configuration comes from: the file of --meshConfig, or without one the ConfigMap `istio` in `istio-system`, as in
 * Kubernetes. What is wrong while running leaves the last good one in force.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { ConfigError } from "../api/config-error.ts";
import { decodeMeshConfig, defaultMesh, type EffectiveMeshConfig } from "../api/mesh/decode-mesh.ts";
import type { ConfigStore } from "../config/store.ts";
import { log } from "../lib/log.ts";
import { watchFile } from "../lib/watch-file.ts";
import { isMeshConfigMap, meshConfigMapKey, meshKey } from "./kubeapi/mesh-config-map.ts";

const scope = log.scope("istiod");

interface ReadMesh {
  readonly mesh: EffectiveMeshConfig;
  readonly text: string;
}

export class MeshSource implements Disposable {
  readonly #parts = new DisposableStack();
  readonly #listeners = new Set<() => void>();
  #current: ReadMesh;
  /** Whether a file has it, and not the ConfigMap. */
  readonly isFile: boolean;

  private constructor(current: ReadMesh, isFile: boolean) {
    this.#current = current;
    this.isFile = isFile;
  }

  /** A mesh that is wrong at the start is an error (ConfigError); a file that isn't there yet means the defaults. */
  static async start(file: string | undefined, store: ConfigStore): Promise<MeshSource> {
    const made = new MeshSource(file ? await loadFile(file) : readConfigMap(store), file !== undefined);
    if (file) {
      made.#parts.use(watchFile(file, () => void made.#reload(file, () => settledFile(file))));
    } else {
      made.#parts.use(
        store.watch((events) => {
          if (events.some(({ object }) => isMeshConfigMap(object)))
            void made.#reload("ConfigMap istio-system/istio", async () => readConfigMap(store));
        }),
      );
    }
    return made;
  }

  get mesh(): EffectiveMeshConfig {
    return this.#current.mesh;
  }

  /** As it was written. */
  get text(): string {
    return this.#current.text;
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async #reload(source: string, read: () => Promise<ReadMesh>): Promise<void> {
    try {
      const next = await read();
      const isSame = isDeepStrictEqual(next.mesh, this.#current.mesh);
      const isSameText = next.text === this.#current.text;
      this.#current = next;
      if (isSame && isSameText) return;
      for (const listener of this.#listeners) listener();
      scope.info("mesh configuration read anew", { source });
    } catch (error) {
      scope.error("mesh configuration is refused, the last good one stays", {
        source,
        reason: error instanceof ConfigError ? error.describe() : error,
      });
    }
  }

  [Symbol.dispose](): void {
    this.#parts.dispose();
  }
}

async function settledFile(file: string): Promise<ReadMesh> {
  // An editor that writes in place leaves the file empty for a moment.
  await delay(20);
  return await loadFile(file);
}

async function loadFile(file: string): Promise<ReadMesh> {
  try {
    return decoded(await readFile(file, "utf8"), file);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw new ConfigError(`can't be read: ${(error as Error).message}`, { position: { file, line: 1 }, cause: error });
    scope.info("mesh configuration is not there, defaults hold", { file });
    return { mesh: defaultMesh(), text: "" };
  }
}

function readConfigMap(store: ConfigStore): ReadMesh {
  const text = store.get(meshConfigMapKey)?.spec.data[meshKey] ?? "";
  return decoded(text, "ConfigMap istio-system/istio");
}

function decoded(text: string, source: string): ReadMesh {
  const { value, errors, warnings } = decodeMeshConfig(text, source);
  for (const warning of warnings) scope.warn(warning.describe());
  if (!value) throw errors[0];
  return { mesh: value, text };
}
