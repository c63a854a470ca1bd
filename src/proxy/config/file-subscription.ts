/**
 * Resources from a file: a DiscoveryResponse as YAML or JSON, read now and whenever the file is replaced.
 * The directory is watched rather than the file, so that an atomic rename (or Kubernetes' symlink swap) is seen.
 */
import { type FSWatcher, watch } from "node:fs";
import * as path from "node:path";
import type { XdsHandler, XdsSubscription } from "../../ads/client.ts";
import { readJson } from "../../api/envoy/read-json.ts";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { DiscoveryResponseSchema } from "../../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { LogScope } from "../../lib/log.ts";
import { loadConfigFile } from "./config-text.ts";

export interface FileSubscriptionOptions {
  readonly path: string;
  readonly typeUrl: string;
  readonly handler: XdsHandler;
  readonly log: LogScope;
}

/** Writers that do not rename give several events; they are one change. */
const settleMs = 20;

export class FileSubscription implements XdsSubscription {
  #options: FileSubscriptionOptions;
  #watcher: FSWatcher;
  #timer: NodeJS.Timeout | undefined;
  #work = Promise.resolve();

  constructor(options: FileSubscriptionOptions) {
    this.#options = options;
    this.#watcher = watch(path.dirname(options.path), { persistent: false }, () => this.#schedule(settleMs));
    this.#watcher.on("error", (error) => options.log.error("Cannot watch a configuration file", { path: options.path, error }));
    this.#schedule(0);
  }

  setNames(): void {}
  refresh(): void {}
  pause(): void {}
  resume(): void {}

  close(): void {
    clearTimeout(this.#timer);
    this.#watcher.close();
  }

  #schedule(delayMs: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#work = this.#work.then(() => this.#load());
    }, delayMs);
  }

  async #load(): Promise<void> {
    const { path: file, typeUrl, handler, log } = this.#options;
    try {
      const text = loadConfigFile(file);
      const response = readJson(DiscoveryResponseSchema, text.json, { registry: envoyTypes, locate: (at) => text.locate(at) });
      const resources = response.resources
        .filter((content) => content.typeUrl === typeUrl)
        .map((content) => ({ name: "", version: response.versionInfo, content }));
      const reason = await handler({ resources, removed: [], version: response.versionInfo, isFull: true });
      if (reason !== undefined) log.warn("Rejected a configuration file", { path: file, reason });
    } catch (error) {
      log.warn("Cannot read a configuration file", { path: file, error });
    }
  }
}
