/**
 * Gives ServiceEntries without addresses some, and writes them into their status, so that they stay over restarts. Only for those that
 * can be written to; for others the registry hashes their names (registry/allocated-addresses.ts).
 *
 * Every pass looks at all entries as they are then, so a write that failed or came too late is made good by the next.
 * Source: Istio pilot/pkg/controllers/ipallocate.
 */
import { isDeepStrictEqual } from "node:util";
import { isKind } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Service } from "../../api/kinds/service.ts";
import type { ServiceEntry } from "../../api/kinds/service-entry.ts";
import { type ConfigEvent, StoreError, type WritableConfigStore } from "../../config/store.ts";
import { log } from "../../lib/log.ts";
import { hostsWithoutAddress, statusAddresses } from "../../registry/allocated-addresses.ts";
import { serviceKey } from "../../registry/service.ts";
import { objectsOf } from "../store-objects.ts";
import { AddressPool } from "./address-pool.ts";
import { planAddresses, type StatusAddress } from "./plan-addresses.ts";

const scope = log.scope("ip-autoallocate");

/** Names of services that are gone are remembered up to here. */
const maxRemembered = 100_000;

export interface AddressAllocatorOptions {
  readonly store: WritableConfigStore;
  /** `cluster.local` */
  readonly domain: string;
  readonly isWritable: (object: ConfigObject) => boolean;
}

const claims = (entry: ConfigObject<ServiceEntry>) => [hostsWithoutAddress(entry), entry.spec.addresses];

export class AddressAllocator implements AsyncDisposable {
  readonly #options: AddressAllocatorOptions;
  readonly #watch: Disposable;
  readonly #pool = new AddressPool();
  readonly #remembered = new Map<string, readonly string[]>();
  readonly #reported = new Set<string>();
  #passes: Promise<void> = Promise.resolve();
  #isPending = false;
  #isDisposed = false;

  private constructor(options: AddressAllocatorOptions) {
    this.#options = options;
    this.#watch = options.store.watch((events) => {
      if (events.some((event) => this.#matters(event))) void this.#request();
    });
  }

  /** Resolves when every entry there is has its addresses. */
  static async start(options: AddressAllocatorOptions): Promise<AddressAllocator> {
    const made = new AddressAllocator(options);
    await made.#request();
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    this.#watch[Symbol.dispose]();
    await this.#passes;
  }

  /** Not of an entry that has what was meant for it and asks for the same as before: our own writing, and changes of anything else. */
  #matters({ type, object, previous }: ConfigEvent): boolean {
    if (object.kind === "Service") return true;
    if (!isKind(object, "ServiceEntry")) return false;
    if (type !== "modified" || !previous || !isKind(previous, "ServiceEntry")) return true;
    if (!isDeepStrictEqual(claims(object), claims(previous))) return true;
    const listed = statusAddresses(object);
    return !hostsWithoutAddress(object).every((host) =>
      isDeepStrictEqual(listed.get(host), this.#remembered.get(serviceKey(host, object.metadata.namespace))),
    );
  }

  /** One pass at a time; what is asked for while one waits is done by that one. */
  #request(): Promise<void> {
    if (!this.#isPending) {
      this.#isPending = true;
      this.#passes = this.#passes.then(async () => {
        this.#isPending = false;
        if (!this.#isDisposed) await this.#pass();
      });
    }
    return this.#passes;
  }

  async #pass(): Promise<void> {
    const { store, domain, isWritable } = this.#options;
    const objects = objectsOf(store);
    const input = {
      entries: objects("ServiceEntry") as ConfigObject<ServiceEntry>[],
      services: objects("Service") as ConfigObject<Service>[],
      domain,
      isWritable,
    };
    if (this.#remembered.size > maxRemembered) this.#remembered.clear();
    const { writes, unserved } = planAddresses(input, this.#pool, this.#remembered);
    for (const service of unserved) {
      if (this.#reported.has(service)) continue;
      this.#reported.add(service);
      scope.error("there is no address left for a service", { service });
    }
    for (const { entry, addresses } of writes) await this.#write(entry, addresses);
  }

  async #write(entry: ConfigObject<ServiceEntry>, addresses: readonly StatusAddress[]): Promise<void> {
    const { name, namespace, resourceVersion } = entry.metadata;
    const status = { ...entry.status, addresses };
    try {
      await this.#options.store.put({ ...entry, status, raw: { ...entry.raw, status } }, { resourceVersion });
      scope.debug("addresses of a ServiceEntry", { name, namespace, addresses: addresses.map(({ value }) => value).join(",") });
    } catch (error) {
      // Changed or deleted meanwhile: that is an event of its own.
      if (error instanceof StoreError && (error.code === "conflict" || error.code === "not-found")) return;
      scope.error("addresses of a ServiceEntry can't be written", { name, namespace, error });
    }
  }
}
