/**
 * Resources that are asked for by name because something refers to them: EDS, RDS and SDS.
 *
 *     acquire(name)  ->  subscribed  --first answer or timeout-->  ready
 *                        later answers --checked--> onChange       (a refused one leaves the last good one)
 *     release        ->  nobody holds it when the turn is over: unsubscribed and forgotten
 *
 * An answer without a resource says nothing about it: absence never removes one of these.
 */
import { type DescMessage, fromBinary, type Message, type MessageShape } from "@bufbuild/protobuf";
import type { XdsResource, XdsSubscription, XdsUpdate } from "../../ads/client.ts";
import type { ConfigSource } from "../../api/gen/envoy/config/core/v3/config_source_pb.js";
import type { TypeUrl } from "../../api/type-urls.ts";
import { type ConfigSources, fetchTimeoutMs } from "./config-sources.ts";

export interface NamedResource<T extends Message> {
  readonly name: string;
  readonly message: T;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly updatedAt: Date;
}

export type NamedResourceEvent = "attempt" | "success" | "rejected" | "timeout";

export interface NamedResourcesOptions<S extends DescMessage> {
  readonly typeUrl: TypeUrl;
  readonly schema: S;
  readonly nameOf: (message: MessageShape<S>) => string;
  readonly sources: ConfigSources;
  /** Throws ConfigError for what can't be used. */
  readonly validate: (message: MessageShape<S>) => void;
  /** A new or changed resource; resolves when it is in force, rejects with a ConfigError when it can't be. */
  readonly onChange: (resource: NamedResource<MessageShape<S>>) => Promise<void>;
  /** Nobody needs it any more. */
  readonly onForgotten?: (name: string) => void;
  readonly onEvent?: (name: string, event: NamedResourceEvent) => void;
  /** Keeps bytes in memory that can be handed to other threads without being copied. */
  readonly sharesBytes?: boolean;
}

export interface ResourceHold<T extends Message> {
  /** Resolves with the first answer, or when there was none for the initial fetch timeout. Never rejects. */
  readonly ready: Promise<void>;
  readonly current: NamedResource<T> | undefined;
  /** Asks again, and resolves as `ready` does; see XdsSubscription.refresh. */
  refetch(): Promise<void>;
  release(): void;
}

interface Entry<T extends Message> {
  readonly name: string;
  readonly group: Group<T>;
  readonly timeoutMs: number;
  holders: number;
  current: NamedResource<T> | undefined;
  waiting: (() => void)[];
  timer: NodeJS.Timeout | undefined;
  ready: Promise<void>;
  error: { readonly details: string; readonly version: string; readonly at: Date } | undefined;
}

/** All names that come from one place. */
interface Group<T extends Message> {
  readonly key: string;
  readonly subscription: XdsSubscription;
  readonly entries: Map<string, Entry<T>>;
  /** Released in this turn: a listener that takes the place of another lets go of what it needs itself. */
  readonly leaving: Map<string, Entry<T>>;
  isAnnouncing: boolean;
}

export class NamedResources<S extends DescMessage> {
  #options: NamedResourcesOptions<S>;
  #groups = new Map<string, Group<MessageShape<S>>>();

  constructor(options: NamedResourcesOptions<S>) {
    this.#options = options;
  }

  /** Throws ConfigError when the source can't be. */
  acquire(name: string, source: ConfigSource | undefined): ResourceHold<MessageShape<S>> {
    const { sources, typeUrl, onEvent } = this.#options;
    const key = sources.key(source);
    let group = this.#groups.get(key);
    if (!group) {
      const entries = new Map<string, Entry<MessageShape<S>>>();
      const subscription = sources.subscribe(typeUrl, source, false, (update) => this.#take(entries, update));
      group = { key, subscription, entries, leaving: new Map(), isAnnouncing: false };
      this.#groups.set(key, group);
    }
    let entry = group.entries.get(name) ?? group.leaving.get(name);
    if (entry && entry.holders === 0) {
      group.leaving.delete(name);
      group.entries.set(name, entry);
    } else if (!entry) {
      entry = {
        name,
        group,
        timeoutMs: fetchTimeoutMs(source),
        holders: 0,
        current: undefined,
        waiting: [],
        timer: undefined,
        ready: Promise.resolve(),
        error: undefined,
      };
      group.entries.set(name, entry);
      onEvent?.(name, "attempt");
      entry.ready = this.#wait(entry);
      this.#announce(group);
    }
    entry.holders++;
    return this.#hold(entry);
  }

  /** Everything that is held, sorted by name, for dumps. */
  list(): readonly NamedResource<MessageShape<S>>[] {
    return [...this.#groups.values()]
      .flatMap(({ entries }) => [...entries.values()].flatMap(({ current }) => (current ? [current] : [])))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Names that were asked for and have not come, sorted. */
  missing(): readonly string[] {
    return [...this.#groups.values()]
      .flatMap(({ entries }) => [...entries.values()].filter(({ current }) => !current).map(({ name }) => name))
      .sort();
  }

  #hold(entry: Entry<MessageShape<S>>): ResourceHold<MessageShape<S>> {
    let isReleased = false;
    return {
      ready: entry.ready,
      get current() {
        return entry.current;
      },
      refetch: () => {
        const answered = this.#wait(entry);
        entry.group.subscription.refresh();
        return answered;
      },
      release: () => {
        if (isReleased) return;
        isReleased = true;
        if (--entry.holders > 0) return;
        entry.group.entries.delete(entry.name);
        entry.group.leaving.set(entry.name, entry);
        this.#announce(entry.group);
      },
    };
  }

  /** Names of one turn go out together: a gateway may ask for ten thousand. */
  #announce(group: Group<MessageShape<S>>): void {
    if (group.isAnnouncing) return;
    group.isAnnouncing = true;
    queueMicrotask(() => {
      group.isAnnouncing = false;
      for (const [name, entry] of group.leaving) {
        settle(entry);
        if (entry.current) this.#options.onForgotten?.(name);
      }
      group.leaving.clear();
      group.subscription.setNames(group.entries.keys());
    });
  }

  #wait(entry: Entry<MessageShape<S>>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    entry.waiting.push(resolve);
    if (entry.timeoutMs > 0 && entry.timer === undefined) {
      entry.timer = setTimeout(() => {
        entry.timer = undefined;
        this.#options.onEvent?.(entry.name, "timeout");
        settle(entry);
      }, entry.timeoutMs);
    }
    return promise;
  }

  async #take(entries: ReadonlyMap<string, Entry<MessageShape<S>>>, update: XdsUpdate): Promise<string | undefined> {
    const reasons: string[] = [];
    const contents = this.#options.sharesBytes ? inSharedMemory(update.resources) : update.resources.map(({ content }) => content.value);
    await Promise.all(
      update.resources.map(async (resource, index) => {
        const reason = await this.#takeOne(entries, resource, contents[index]!, update.version);
        if (reason !== undefined) reasons.push(reason);
      }),
    );
    // A server that answers without the resource knows none of that name (delta says so by listing it as removed).
    for (const name of update.removed) {
      const entry = entries.get(name);
      if (entry) settle(entry);
    }
    return reasons.length > 0 ? reasons.join(", ") : undefined;
  }

  async #takeOne(
    entries: ReadonlyMap<string, Entry<MessageShape<S>>>,
    resource: XdsResource,
    bytes: Uint8Array,
    version: string,
  ): Promise<string | undefined> {
    const { schema, nameOf, validate, onChange, onEvent } = this.#options;
    let entry: Entry<MessageShape<S>> | undefined;
    try {
      const message = fromBinary(schema, bytes);
      const name = nameOf(message);
      entry = entries.get(name);
      if (!entry) return undefined; // nobody asked, or nobody asks any more
      const known = entry.current;
      if (known && Buffer.compare(known.bytes, bytes) === 0) {
        entry.current = { ...known, version: resource.version || version, updatedAt: known.updatedAt };
      } else {
        this.#options.sources.check(schema, message);
        validate(message);
        const changed = { name, message, bytes, version: resource.version || version, updatedAt: new Date() };
        entry.current = changed;
        await onChange(changed);
      }
      entry.error = undefined;
      onEvent?.(name, "success");
      settle(entry);
      return undefined;
    } catch (error) {
      const details = (error as Error).message;
      if (entry) {
        entry.error = { details, version, at: new Date() };
        onEvent?.(entry.name, "rejected");
        settle(entry); // an answer is an answer: what waits goes on with what there is
      }
      return details;
    }
  }
}

/** What came together lies together: ten thousand pieces of shared memory would be ten thousand things to collect. */
function inSharedMemory(resources: readonly XdsResource[]): Uint8Array[] {
  const total = resources.reduce((sum, { content }) => sum + content.value.length, 0);
  const shared = new Uint8Array(new SharedArrayBuffer(total));
  let end = 0;
  return resources.map(({ content }) => {
    const start = end;
    end += content.value.length;
    shared.set(content.value, start);
    return shared.subarray(start, end);
  });
}

function settle<T extends Message>(entry: Entry<T>): void {
  clearTimeout(entry.timer);
  entry.timer = undefined;
  const { waiting } = entry;
  entry.waiting = [];
  for (const resolve of waiting) resolve();
}
