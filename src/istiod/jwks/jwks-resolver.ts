/**
 * Keeps the keys of token issuers up to date: fetches those that rules name, again every 20 minutes, and sooner after a failure.
 *
 *   wanted ──> fetching ──ok──> fresh ──refresh──> fetching
 *                 │ failed: with backoff again; keys that were there once stay
 *
 * An outage of an issuer changes nothing for its users, also over a restart: the last keys are kept in a file. Without any, tokens are
 * refused. Source: Istio pilot/pkg/model/jwks_resolver.go.
 */
import { readFile } from "node:fs/promises";
import { log } from "../../lib/log.ts";
import { writeWhole } from "../../lib/write-whole.ts";
import { fetchDocument } from "../fetch/fetch-document.ts";
import type { ProxyEnvironment } from "../fetch/proxy-environment.ts";
import { type FetchText, fetchJwks } from "./fetch-jwks.ts";
import type { JwksSnapshot, JwksSource } from "./jwks-source.ts";
import { problemOfJwks } from "./usable-keys.ts";

const scope = log.scope("jwks");

export interface JwksResolverOptions {
  /** Keys of earlier runs; absent: none are kept. */
  readonly cacheFile?: string | undefined;
  /** Between two fetches that succeed, 10 % more or less. Default 20 minutes, Istio PILOT_JWT_PUB_KEY_REFRESH_INTERVAL. */
  readonly refreshMs?: number;
  /** After a first failure without keys, doubled with each further one up to a minute. Default 1 s. */
  readonly retryMs?: number;
  readonly fetchText?: FetchText;
  /** By which issuers are asked. */
  readonly proxies?: ProxyEnvironment | undefined;
}

export interface JwksObserver {
  /** What a snapshot says would be something else now, and nobody is in `want` to find out. */
  onChange(): void;
  onFetched(isSuccess: boolean): void;
}

interface Entry {
  source: JwksSource;
  keys: string | undefined;
  problem: string | undefined;
  failures: number;
  timer: NodeJS.Timeout | undefined;
  /** The fetch under way. */
  fetching: Promise<void> | undefined;
}

const maxRetryMs = 60_000;

export class JwksResolver implements AsyncDisposable {
  readonly #options: Required<Pick<JwksResolverOptions, "refreshMs" | "retryMs" | "fetchText">> & JwksResolverOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #kept: Map<string, string>;
  readonly #disposal = new AbortController();
  #observer: JwksObserver = { onChange() {}, onFetched() {} };
  /** A snapshot is about to be taken for their sake. */
  #awaited: ReadonlySet<Entry> = new Set();
  #saving: Promise<void> = Promise.resolve();

  private constructor(options: JwksResolverOptions, kept: Map<string, string>) {
    const { signal } = this.#disposal;
    this.#options = {
      refreshMs: 20 * 60_000,
      retryMs: 1000,
      fetchText: (url, timeoutMs) => fetchDocument(url, { timeoutMs, signal, proxies: options.proxies }),
      ...options,
    };
    this.#kept = kept;
  }

  static async start(options: JwksResolverOptions = {}): Promise<JwksResolver> {
    return new JwksResolver(options, options.cacheFile ? await loadKept(options.cacheFile) : new Map());
  }

  observe(observer: JwksObserver): void {
    this.#observer = observer;
  }

  /**
   * What rules name now; all else is forgotten. Resolves when every source has keys or a problem, at the latest after `patienceMs`:
   * who then takes a snapshot rarely sees a source that is good and not there yet.
   */
  async want(sources: readonly JwksSource[], patienceMs: number): Promise<void> {
    const wanted = new Map<string, JwksSource>();
    for (const source of sources) {
      const same = wanted.get(source.url);
      if (!same || same.timeoutMs < source.timeoutMs) wanted.set(source.url, source);
    }
    for (const [url, { timer }] of this.#entries) {
      if (wanted.has(url)) continue;
      clearTimeout(timer);
      this.#entries.delete(url);
    }
    for (const [url, source] of wanted) {
      const entry = this.#entries.get(url);
      if (entry) entry.source = source;
      else this.#add(source);
    }
    const unknown = [...this.#entries.values()].filter(({ keys, problem }) => keys === undefined && problem === undefined);
    if (unknown.length === 0) return;
    this.#awaited = new Set(unknown);
    const { promise: patience, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, patienceMs);
    await Promise.race([patience, Promise.all(unknown.map(({ fetching }) => fetching))]);
    clearTimeout(timer);
    this.#awaited = new Set();
  }

  snapshot(): JwksSnapshot {
    const entries = new Map([...this.#entries].map(([url, { keys, problem }]) => [url, { keys, problem }]));
    return {
      keys: ({ url }) => entries.get(url)?.keys,
      problem: ({ url }) => entries.get(url)?.problem,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal.abort();
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
    await this.#saving;
  }

  #add(source: JwksSource): void {
    const entry: Entry = {
      source,
      keys: this.#kept.get(source.url),
      problem: undefined,
      failures: 0,
      timer: undefined,
      fetching: undefined,
    };
    this.#entries.set(source.url, entry);
    this.#fetch(entry);
  }

  #fetch(entry: Entry): void {
    entry.fetching = this.#fetchNow(entry).finally(() => {
      entry.fetching = undefined;
    });
  }

  async #fetchNow(entry: Entry): Promise<void> {
    const { source } = entry;
    let isChanged: boolean;
    try {
      const keys = await fetchJwks(source, this.#options.fetchText);
      this.#observer.onFetched(true);
      const isNew = !sameKeys(entry.keys, keys);
      isChanged = isNew || entry.problem !== undefined;
      entry.failures = 0;
      entry.problem = undefined;
      if (isNew) this.#take(entry, keys);
    } catch (error) {
      if (this.#disposal.signal.aborted) return;
      this.#observer.onFetched(false);
      isChanged = entry.problem === undefined;
      entry.failures++;
      entry.problem ??= (error as Error).message;
      scope.debug("keys can't be fetched", { url: source.url, reason: (error as Error).message });
    }
    if (this.#entries.get(source.url) !== entry) return;
    entry.timer = setTimeout(() => this.#fetch(entry), this.#nextMs(entry));
    entry.timer.unref();
    if (isChanged && !this.#awaited.has(entry)) this.#observer.onChange();
  }

  #nextMs({ failures, keys }: Entry): number {
    const { refreshMs, retryMs } = this.#options;
    const jitter = 0.9 + Math.random() * 0.2;
    if (failures === 0) return refreshMs * jitter;
    // With old keys there is no hurry.
    const first = keys === undefined ? retryMs : Math.min(maxRetryMs, refreshMs);
    const most = keys === undefined ? maxRetryMs : refreshMs;
    return Math.min(most, first * 2 ** Math.min(20, failures - 1)) * jitter;
  }

  #take(entry: Entry, keys: string): void {
    scope.info("keys of an issuer", { url: entry.source.url });
    entry.keys = keys;
    this.#kept.set(entry.source.url, keys);
    const { cacheFile } = this.#options;
    if (!cacheFile) return;
    const content = JSON.stringify(Object.fromEntries([...this.#kept].filter(([url]) => this.#entries.has(url))));
    this.#saving = this.#saving
      .then(() => writeWhole(cacheFile, content, 0o600))
      .catch((error: unknown) => scope.warn("keys can't be kept", { file: cacheFile, reason: (error as Error).message }));
  }
}

/** The same keys in another order, as some issuers give them, are no news. */
function sameKeys(a: string | undefined, b: string): boolean {
  return a === b || (a !== undefined && sorted(a) === sorted(b));
}

function sorted(text: string): string {
  const document = JSON.parse(text) as { keys?: unknown[] } & Record<string, unknown>;
  const parts = document.keys?.map((key) => JSON.stringify(key)) ?? Object.entries(document).map((entry) => JSON.stringify(entry));
  return parts.sort().join();
}

/** A file that can't be read is as good as none: the issuers are asked anyway. */
async function loadKept(file: string): Promise<Map<string, string>> {
  try {
    const content: unknown = JSON.parse(await readFile(file, "utf8"));
    if (typeof content !== "object" || content === null) return new Map();
    return new Map(Object.entries(content).filter((entry): entry is [string, string] => isKeySet(entry[1])));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      scope.warn("kept keys can't be read", { file, reason: (error as Error).message });
    return new Map();
  }
}

function isKeySet(value: unknown): boolean {
  return typeof value === "string" && problemOfJwks(value) === undefined;
}
