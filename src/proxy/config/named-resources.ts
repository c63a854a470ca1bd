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
import { encodedName, isSameBytes } from "./encoded-name.ts";
import { inSharedMemory } from "./shared-bytes.ts";

/** What is kept of a resource: its bytes, which all threads can read. As a message it takes ten times the memory. */
export interface NamedResource<T extends Message, Kept = undefined> {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly updatedAt: Date;
  /** What `keep` made of it. */
  readonly kept: Kept | undefined;
  decode(): T;
}

export interface ResourceChange<T extends Message> {
  /** As if what is new were all of it. */
  readonly message: T;
  /** What of the whole is not right, whatever its parts are; throws ConfigError. */
  readonly checkWhole: () => void;
}

export type NamedResourceEvent = "attempt" | "success" | "rejected" | "timeout";

export interface NamedResourcesOptions<S extends DescMessage, Kept = undefined> {
  readonly typeUrl: TypeUrl;
  readonly schema: S;
  readonly nameOf: (message: MessageShape<S>) => string;
  readonly sources: ConfigSources;
  /** Throws ConfigError for what can't be used; the constraints of the protos are looked after here. */
  readonly validate: (message: MessageShape<S>) => void;
  /** What has to be checked of a resource that takes the place of another; absent: all of it. */
  readonly changeOf?: (known: Uint8Array, bytes: Uint8Array) => ResourceChange<MessageShape<S>> | undefined;
  /** Something small that is worked out while the message is there; not along with `changeOf`. */
  readonly keep?: (message: MessageShape<S>) => Kept;
  /** A new or changed resource; resolves when it is in force, rejects with a ConfigError when it can't be. */
  readonly onChange: (resource: NamedResource<MessageShape<S>, Kept>) => Promise<void>;
  /** Nobody needs it any more. */
  readonly onForgotten?: (name: string) => void;
  readonly onEvent?: (name: string, event: NamedResourceEvent) => void;
}

export interface ResourceHold<T extends Message, Kept = undefined> {
  /** Resolves with the first answer, or when there was none for the initial fetch timeout. Never rejects. */
  readonly ready: Promise<void>;
  readonly current: NamedResource<T, Kept> | undefined;
  /** Asks again, and resolves as `ready` does; see XdsSubscription.refresh. */
  refetch(): Promise<void>;
  release(): void;
}

interface Entry<T extends Message, Kept> {
  readonly name: string;
  readonly group: Group<T, Kept>;
  readonly timeoutMs: number;
  holders: number;
  current: NamedResource<T, Kept> | undefined;
  waiting: (() => void)[];
  timer: NodeJS.Timeout | undefined;
  ready: Promise<void>;
  error: { readonly details: string; readonly version: string; readonly at: Date } | undefined;
}

/** All names that come from one place. */
interface Group<T extends Message, Kept> {
  readonly key: string;
  readonly subscription: XdsSubscription;
  readonly entries: Map<string, Entry<T, Kept>>;
  /** Released in this turn: a listener that takes the place of another lets go of what it needs itself. */
  readonly leaving: Map<string, Entry<T, Kept>>;
  isAnnouncing: boolean;
}

export class NamedResources<S extends DescMessage, Kept = undefined> {
  #options: NamedResourcesOptions<S, Kept>;
  #groups = new Map<string, Group<MessageShape<S>, Kept>>();

  constructor(options: NamedResourcesOptions<S, Kept>) {
    this.#options = options;
  }

  /** Throws ConfigError when the source can't be. */
  acquire(name: string, source: ConfigSource | undefined): ResourceHold<MessageShape<S>, Kept> {
    const { sources, typeUrl, onEvent } = this.#options;
    const key = sources.key(source);
    let group = this.#groups.get(key);
    if (!group) {
      const entries = new Map<string, Entry<MessageShape<S>, Kept>>();
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
  list(): readonly NamedResource<MessageShape<S>, Kept>[] {
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

  #hold(entry: Entry<MessageShape<S>, Kept>): ResourceHold<MessageShape<S>, Kept> {
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
  #announce(group: Group<MessageShape<S>, Kept>): void {
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

  #wait(entry: Entry<MessageShape<S>, Kept>): Promise<void> {
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

  async #take(entries: ReadonlyMap<string, Entry<MessageShape<S>, Kept>>, update: XdsUpdate): Promise<string | undefined> {
    const reasons: string[] = [];
    // Servers that don't send differences send what is known already.
    const changed: XdsResource[] = [];
    for (const resource of update.resources) {
      const entry = entries.get(resource.name || (encodedName(resource.content.value) ?? ""));
      if (entry?.current && isSameBytes(entry.current.bytes, resource.content.value))
        this.#confirm(entry, resource.version || update.version);
      else changed.push(resource);
    }
    const contents = inSharedMemory(changed.map(({ content }) => content.value));
    await Promise.all(
      changed.map(async (resource, index) => {
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

  /** Whether what is new of a resource that has changed a little was looked at and is good. If not, the whole says better what is wrong. */
  #isGoodChange(name: string, known: Uint8Array | undefined, bytes: Uint8Array): boolean {
    const { schema, nameOf, changeOf, validate, sources } = this.#options;
    if (known === undefined || changeOf === undefined) return false;
    try {
      const change = changeOf(known, bytes);
      if (change === undefined || nameOf(change.message) !== name) return false;
      change.checkWhole();
      sources.check(schema, change.message);
      validate(change.message);
      return true;
    } catch {
      return false;
    }
  }

  /** It has come again as it is. */
  #confirm(entry: Entry<MessageShape<S>, Kept>, version: string): void {
    entry.current = { ...entry.current!, version };
    entry.error = undefined;
    this.#options.onEvent?.(entry.name, "success");
    settle(entry);
  }

  async #takeOne(
    entries: ReadonlyMap<string, Entry<MessageShape<S>, Kept>>,
    resource: XdsResource,
    bytes: Uint8Array,
    version: string,
  ): Promise<string | undefined> {
    const { schema, nameOf, validate, keep, onChange, onEvent, sources } = this.#options;
    let entry: Entry<MessageShape<S>, Kept> | undefined;
    try {
      const guessed = encodedName(bytes) ?? "";
      let name = guessed;
      let kept: Kept | undefined;
      if (this.#isGoodChange(guessed, entries.get(guessed)?.current?.bytes, bytes)) entry = entries.get(guessed)!;
      else {
        const message = fromBinary(schema, bytes);
        name = nameOf(message);
        entry = entries.get(name);
        if (!entry) return undefined; // nobody asked, or nobody asks any more
        sources.check(schema, message);
        validate(message);
        kept = keep?.(message);
      }
      const changed = encoded(schema, { name, bytes, version: resource.version || version, updatedAt: new Date(), kept });
      entry.current = changed;
      await onChange(changed);
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

function encoded<S extends DescMessage, Kept>(
  schema: S,
  parts: Omit<NamedResource<MessageShape<S>, Kept>, "decode">,
): NamedResource<MessageShape<S>, Kept> {
  return { ...parts, decode: () => fromBinary(schema, parts.bytes) };
}

function settle<T extends Message, Kept>(entry: Entry<T, Kept>): void {
  clearTimeout(entry.timer);
  entry.timer = undefined;
  const { waiting } = entry;
  entry.waiting = [];
  for (const resolve of waiting) resolve();
}
