/**
 * Where the mesh's configuration and its networks come from: the files of --meshConfig and --networksConfig, or without a file its key in the
 * ConfigMap `istio` in `istio-system`, as in Kubernetes. What is wrong while running leaves the last good one in force.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { ConfigError } from "../api/config-error.ts";
import { type DecodedMesh, decodeMeshConfig, decodeMeshNetworks, type EffectiveMeshConfig } from "../api/mesh/decode-mesh.ts";
import type { MeshNetworks } from "../api/mesh/mesh-networks.ts";
import type { ConfigStore } from "../config/store.ts";
import { log } from "../lib/log.ts";
import { watchFile } from "../lib/watch-file.ts";
import { isMeshConfigMap, meshConfigMapKey, meshKey, networksKey } from "./kubeapi/mesh-config-map.ts";

const scope = log.scope("istiod");

interface Read<T> {
  readonly value: T;
  readonly text: string;
}

export class MeshSource<T> implements Disposable {
  readonly #parts = new DisposableStack();
  readonly #listeners = new Set<() => void>();
  #current: Read<T>;
  /** Whether a file has it, and not the ConfigMap. */
  readonly isFile: boolean;

  private constructor(current: Read<T>, isFile: boolean) {
    this.#current = current;
    this.isFile = isFile;
  }

  /** What is wrong at the start is an error (ConfigError); a file that isn't there yet is as one that says nothing. */
  static async start<T>(
    file: string | undefined,
    key: string,
    store: ConfigStore,
    decode: (text: string, source: string) => DecodedMesh<T>,
  ): Promise<MeshSource<T>> {
    const source = file ?? `ConfigMap ${meshConfigMapKey.namespace}/${meshConfigMapKey.name}`;
    const read = async () => decoded(file ? await loadFile(file) : (store.get(meshConfigMapKey)?.spec.data[key] ?? ""), source, decode);
    const made = new MeshSource(await read(), file !== undefined);
    if (file) {
      // An editor that writes in place leaves the file empty for a moment.
      made.#parts.use(watchFile(file, () => void delay(20).then(() => made.#reload(source, read))));
    } else {
      made.#parts.use(
        store.watch((events) => {
          if (events.some(({ object }) => isMeshConfigMap(object))) void made.#reload(source, read);
        }),
      );
    }
    return made;
  }

  get value(): T {
    return this.#current.value;
  }

  /** As it was written. */
  get text(): string {
    return this.#current.text;
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async #reload(source: string, read: () => Promise<Read<T>>): Promise<void> {
    try {
      const next = await read();
      const isSame = next.text === this.#current.text || (!this.isFile && isDeepStrictEqual(next.value, this.#current.value));
      this.#current = next;
      if (isSame) return;
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

export function startMeshConfig(file: string | undefined, store: ConfigStore): Promise<MeshSource<EffectiveMeshConfig>> {
  return MeshSource.start(file, meshKey, store, decodeMeshConfig);
}

/** Undefined where nothing is said of networks. */
export function startMeshNetworks(file: string | undefined, store: ConfigStore): Promise<MeshSource<MeshNetworks | undefined>> {
  return MeshSource.start<MeshNetworks | undefined>(file, networksKey, store, (text, source) =>
    text.trim() === "" ? { value: undefined, errors: [], warnings: [] } : decodeMeshNetworks(text, source),
  );
}

async function loadFile(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw new ConfigError(`can't be read: ${(error as Error).message}`, { position: { file, line: 1 }, cause: error });
    scope.info("mesh configuration is not there, defaults hold", { file });
    return "";
  }
}

function decoded<T>(text: string, source: string, decode: (text: string, source: string) => DecodedMesh<T>): Read<T> {
  const { value, errors, warnings } = decode(text, source);
  for (const warning of warnings) scope.warn(warning.describe());
  if (errors[0]) throw errors[0];
  return { value: value as T, text };
}
