/**
 * Roots that others publish at URLs, as SPIFFE bundles: fetched, kept, fetched again every half hour or as often as the publisher says.
 * An outage changes nothing, also over a restart: the last roots are kept in a file. Source: Istio pilot/pkg/trustbundle/trustbundle.go.
 */
import { readFile } from "node:fs/promises";
import { log } from "../../lib/log.ts";
import { writeWhole } from "../../lib/write-whole.ts";
import { fetchDocument } from "../fetch/fetch-document.ts";
import type { ProxyEnvironment } from "../fetch/proxy-environment.ts";
import { parseSpiffeBundle } from "./spiffe-bundle.ts";

const scope = log.scope("trustBundle");

export interface BundleEndpointsOptions {
  /** Bundles of earlier runs; absent: none are kept. */
  readonly cacheFile?: string | undefined;
  /** Between two fetches at most, half an hour. */
  readonly refreshMs?: number | undefined;
  /** After a first failure, doubled with each further one up to `refreshMs`; 1 s. */
  readonly retryMs?: number | undefined;
  /** PEM of CAs that servers are judged by; default are the machine's. */
  readonly trustedCas?: readonly string[] | undefined;
  readonly proxies?: ProxyEnvironment | undefined;
}

interface Entry {
  /** As published; undefined until there is a good one. */
  bundle: string | undefined;
  roots: readonly string[];
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

const fetchTimeoutMs = 10_000;
/** A publisher that wants to be asked more often is not. */
const leastRefreshMs = 10_000;

export class BundleEndpoints implements AsyncDisposable {
  readonly #options: BundleEndpointsOptions & { readonly refreshMs: number; readonly retryMs: number };
  readonly #entries = new Map<string, Entry>();
  readonly #kept: Map<string, string>;
  readonly #disposal = new AbortController();
  #onChange: () => void = () => {};
  #saving: Promise<void> = Promise.resolve();

  private constructor(options: BundleEndpointsOptions, kept: Map<string, string>) {
    this.#options = { ...options, refreshMs: options.refreshMs ?? 30 * 60_000, retryMs: options.retryMs ?? 1000 };
    this.#kept = kept;
  }

  static async start(options: BundleEndpointsOptions = {}): Promise<BundleEndpoints> {
    return new BundleEndpoints(options, options.cacheFile ? await loadKept(options.cacheFile) : new Map());
  }

  /** Is told when the roots of a URL have changed. */
  observe(onChange: () => void): void {
    this.#onChange = onChange;
  }

  /** The URLs that count from now on; the others are forgotten. */
  want(urls: ReadonlySet<string>): void {
    for (const [url, { timer }] of this.#entries) {
      if (urls.has(url)) continue;
      clearTimeout(timer);
      this.#entries.delete(url);
    }
    for (const url of urls) {
      if (this.#entries.has(url)) continue;
      const bundle = this.#kept.get(url);
      const entry: Entry = { bundle, roots: bundle === undefined ? [] : parseSpiffeBundle(bundle).roots, failures: 0, timer: undefined };
      this.#entries.set(url, entry);
      void this.#fetch(url, entry);
    }
  }

  /** PEM; empty until they were had once. */
  roots(url: string): readonly string[] {
    return this.#entries.get(url)?.roots ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal.abort();
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
    await this.#saving;
  }

  async #fetch(url: string, entry: Entry): Promise<void> {
    const { signal } = this.#disposal;
    const { refreshMs, retryMs, trustedCas, proxies } = this.#options;
    let nextMs = refreshMs;
    try {
      const bundle = await fetchDocument(url, { timeoutMs: fetchTimeoutMs, signal, trustedCas, proxies });
      const { roots, refreshSeconds } = parseSpiffeBundle(bundle);
      entry.failures = 0;
      if (refreshSeconds !== undefined) nextMs = Math.min(refreshMs, Math.max(leastRefreshMs, refreshSeconds * 1000));
      if (this.#entries.get(url) === entry) this.#take(url, entry, bundle, roots);
    } catch (error) {
      if (signal.aborted) return;
      nextMs = Math.min(refreshMs, retryMs * 2 ** Math.min(20, entry.failures++));
      scope.warn("a trust bundle can't be had, the last one stays", {
        url,
        reason: error instanceof Error ? error.message : error,
        retryInMs: nextMs,
      });
    }
    if (this.#entries.get(url) !== entry) return;
    entry.timer = setTimeout(() => void this.#fetch(url, entry), nextMs * (0.9 + Math.random() * 0.2));
    entry.timer.unref();
  }

  #take(url: string, entry: Entry, bundle: string, roots: readonly string[]): void {
    if (entry.bundle === bundle) return;
    const isChanged = entry.roots.join() !== roots.join();
    entry.bundle = bundle;
    entry.roots = roots;
    this.#kept.set(url, bundle);
    this.#save();
    if (!isChanged) return;
    scope.info("trust bundle", { url, roots: roots.length });
    this.#onChange();
  }

  #save(): void {
    const { cacheFile } = this.#options;
    if (!cacheFile) return;
    const content = JSON.stringify(Object.fromEntries([...this.#kept].filter(([url]) => this.#entries.has(url))));
    this.#saving = this.#saving
      .then(() => writeWhole(cacheFile, content, 0o600))
      .catch((error: unknown) => scope.warn("trust bundles can't be kept", { file: cacheFile, reason: (error as Error).message }));
  }
}

/** A file that can't be read is as good as none: the URLs are asked anyway. */
async function loadKept(file: string): Promise<Map<string, string>> {
  try {
    const content: unknown = JSON.parse(await readFile(file, "utf8"));
    if (typeof content !== "object" || content === null) return new Map();
    return new Map(Object.entries(content).filter((entry): entry is [string, string] => isBundle(entry[1])));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      scope.warn("kept trust bundles can't be read", { file, reason: (error as Error).message });
    return new Map();
  }
}

function isBundle(value: unknown): boolean {
  if (typeof value !== "string") return false;
  try {
    parseSpiffeBundle(value);
    return true;
  } catch {
    return false;
  }
}
