/**
 * Addresses of Services of their own (`clusterIP`). Nothing answers at them: a sidecar captures what goes there and balances it, and
 * the agent's DNS proxy resolves the Service's name to them.
 */
import { createHash } from "node:crypto";
import { isIPv4 } from "node:net";
import { type RawObject, textAt } from "../../../api/kinds/raw-fields.ts";
import type { ConfigStore } from "../../../config/store.ts";
import { ApiError } from "../status.ts";

/** Reserved, so that nobody is reached there; beside the range that ServiceEntries have. */
export const defaultServiceRange = "240.241.0.0/16";

/** IPv4 in CIDR notation, from /8 to /28. */
export function isServiceRange(text: string): boolean {
  const [address = "", bits = "", more] = text.split("/");
  return isIPv4(address) && /^\d+$/.test(bits) && Number(bits) >= 8 && Number(bits) <= 28 && more === undefined;
}

export class ClusterAddresses {
  readonly #store: ConfigStore;
  readonly #base: number;
  readonly #size: number;
  /** Promised to Services that are being written. */
  readonly #promised = new Map<string, string>();

  /** `range`: one that `isServiceRange`. */
  constructor(store: ConfigStore, range: string) {
    const [address = "", bits = ""] = range.split("/");
    this.#store = store;
    this.#size = 2 ** (32 - Number(bits));
    this.#base = Math.floor(toNumber(address) / this.#size) * this.#size;
  }

  /**
   * An address for the Service, which keeps it as long as it lives: where its name points to, or the next that is free. `release` when
   * the Service has been written, or was refused. Throws ApiError when all are taken.
   */
  allocate(namespace: string, name: string): { readonly address: string; release(): void } {
    const taken = new Set([...this.#promised.keys(), ...this.#store.list("Service").map(({ raw }) => textAt(raw, "spec", "clusterIP"))]);
    // The first is the network's own and the last its broadcast.
    const count = this.#size - 2;
    const start = createHash("sha256").update(`${namespace}/${name}`).digest().readUInt32BE(0) % count;
    for (let tried = 0; tried < count; tried++) {
      const address = toAddress(this.#base + 1 + ((start + tried) % count));
      if (taken.has(address)) continue;
      this.#promised.set(address, `${namespace}/${name}`);
      return { address, release: () => void this.#promised.delete(address) };
    }
    throw new ApiError(500, "failed to allocate a serviceIP: range is full");
  }
}

/** Whether the Service is one that has an address and says nothing of it. */
export function wantsAddress(service: RawObject): boolean {
  return textAt(service, "spec", "clusterIP") === "" && textAt(service, "spec", "type") !== "ExternalName";
}

function toNumber(address: string): number {
  return address.split(".").reduce((number, part) => number * 256 + Number(part), 0);
}

function toAddress(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}
