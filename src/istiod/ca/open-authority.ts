/**
 * Which authority the mesh has: the operator's directory, the operator's Secret `cacerts`, the root that control planes share through their
 * store, or a root of our own.
 */
import { existsSync, watch } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../api/config-error.ts";
import { formatKey, keyOf, type ObjectKey } from "../../api/kinds/object.ts";
import type { ConfigStore, WritableConfigStore } from "../../config/store.ts";
import { log } from "../../lib/log.ts";
import { CertificateAuthority, type SigningMaterial } from "./certificate-authority.ts";
import { loadPluggedIn, parsePluggedIn } from "./plugged-in.ts";
import { isDue, loadSelfSigned, renewSelfSigned } from "./self-signed.ts";
import { readStoredRoot, renewSharedRoot, shareRoot, storedRootKey } from "./stored-root.ts";

const scope = log.scope("ca");
const secretKey = { kind: "Secret", namespace: "istio-system", name: "cacerts" } as const;
const rotationCheckMs = 3600_000;
const quietMs = 200;

export interface AuthoritySources {
  /** Directory of a plugged-in authority; may not exist. Istio ROOT_CA_DIR. */
  readonly directory: string | undefined;
  readonly store: ConfigStore;
  /** The same, where control planes share it. */
  readonly shared: WritableConfigStore | undefined;
  /** Where a root of our own is kept. */
  readonly dataDir: string | undefined;
  /** Becomes the organization of a root of our own. */
  readonly trustDomain: string;
}

export interface OpenAuthority extends Disposable {
  readonly authority: CertificateAuthority;
  /** For messages. */
  readonly origin: string;
}

/**
 * Throws ConfigError when what the operator brings can't be used: falling back to another root would cut the mesh in two. Once
 * running, something unusable leaves the last good authority in force.
 */
export async function openAuthority(sources: AuthoritySources): Promise<OpenAuthority> {
  const { directory, store, shared, dataDir, trustDomain } = sources;
  const fromDirectory = directory ? await loadPluggedIn(directory) : undefined;
  if (directory && fromDirectory) {
    const authority = new CertificateAuthority(fromDirectory);
    return withDisposal(
      authority,
      directory,
      watchDirectory(directory, () => void reload(authority, () => loadPluggedIn(directory))),
    );
  }
  const fromSecret = readSecret(store);
  if (fromSecret) {
    const authority = new CertificateAuthority(fromSecret);
    const watching = watchSecret(store, secretKey, () => void reload(authority, async () => readSecret(store)));
    return withDisposal(authority, "Secret istio-system/cacerts", watching);
  }
  const ownDirectory = dataDir ? join(dataDir, "ca") : undefined;
  const fromStore = readStoredRoot(store) ?? (shared && (await shareRoot(shared, () => loadSelfSigned(ownDirectory, trustDomain))));
  if (fromStore) return openStored(fromStore, sources);
  let material = await loadSelfSigned(ownDirectory, trustDomain);
  const authority = new CertificateAuthority(material);
  const timer = setInterval(() => {
    if (!isDue(material, Date.now())) return;
    void reload(authority, async () => {
      material = await renewSelfSigned(ownDirectory, trustDomain, material);
      return material;
    });
  }, rotationCheckMs);
  timer.unref();
  return withDisposal(
    authority,
    dataDir ? `a root of its own in ${dataDir}` : "a root of its own that is not kept: there is no --dataDir",
    {
      [Symbol.dispose]: () => clearInterval(timer),
    },
  );
}

/** Whoever finds first that it is due prolongs it; all follow what is in the store. */
function openStored(material: SigningMaterial, { store, shared, trustDomain }: AuthoritySources): OpenAuthority {
  const authority = new CertificateAuthority(material);
  const parts = new DisposableStack();
  parts.use(watchSecret(store, storedRootKey, () => void reload(authority, async () => readStoredRoot(store))));
  if (shared) {
    const renew = () =>
      renewSharedRoot(shared, trustDomain, Date.now()).catch((error: unknown) =>
        scope.error("the shared root can't be prolonged", { error }),
      );
    const timer = setInterval(() => void renew(), rotationCheckMs);
    timer.unref();
    parts.defer(() => clearInterval(timer));
    void renew();
  }
  return withDisposal(authority, `Secret istio-system/${storedRootKey.name}`, parts);
}

function watchSecret(store: ConfigStore, key: ObjectKey, onChange: () => void): Disposable {
  return store.watch((events) => {
    if (events.some(({ object }) => formatKey(keyOf(object)) === formatKey(key))) onChange();
  });
}

function withDisposal(authority: CertificateAuthority, origin: string, watching: Disposable): OpenAuthority {
  return { authority, origin, [Symbol.dispose]: () => watching[Symbol.dispose]() };
}

function readSecret(store: ConfigStore): SigningMaterial | undefined {
  const secret = store.get(secretKey);
  if (!secret) return undefined;
  const files = new Map(Object.entries(secret.spec.data).map(([name, bytes]) => [name, Buffer.from(bytes).toString("utf8")]));
  return parsePluggedIn(files, (name) => `Secret istio-system/cacerts[${name}]`);
}

async function reload(authority: CertificateAuthority, load: () => Promise<SigningMaterial | undefined>): Promise<void> {
  try {
    const material = await load();
    if (!material) return scope.error("the authority's files are gone, the last ones stay in force");
    authority.replace(material);
    scope.info("the authority has changed", { roots: material.roots.length });
  } catch (error) {
    scope.error("the new authority is refused, the last good one stays", {
      reason: error instanceof ConfigError ? error.describe() : error instanceof Error ? error.message : error,
    });
  }
}

/** Several files change together; the last event counts. */
function watchDirectory(directory: string, onChange: () => void): Disposable {
  let timer: NodeJS.Timeout | undefined;
  const watcher = existsSync(directory) ? watch(directory) : undefined;
  watcher?.on("change", () => {
    clearTimeout(timer);
    timer = setTimeout(onChange, quietMs);
  });
  watcher?.on("error", () => watcher.close());
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      watcher?.close();
    },
  };
}
