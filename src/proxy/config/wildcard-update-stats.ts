/** `cluster_manager.cds.*` and `listener_manager.lds.*`: how the subscription to everything of a type fares. */
import { hash } from "node:crypto";
import type { StatsReader } from "../stats/stats-reader.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";

export class WildcardUpdateStats {
  readonly #store: StatsStore;
  readonly #texts: Pick<StatsReader, "setText">;
  readonly #prefix: string;
  readonly #at: Readonly<
    Record<"attempt" | "success" | "failure" | "rejected" | "timeout" | "version" | "time" | "duration" | "reload", StatIndex>
  >;

  /** `prefix` ends without a dot. */
  constructor(store: StatsStore, texts: Pick<StatsReader, "setText">, prefix: string) {
    this.#store = store;
    this.#texts = texts;
    this.#prefix = prefix;
    texts.setText(`${prefix}.version_text`, "");
    this.#at = {
      attempt: store.counter(`${prefix}.update_attempt`),
      success: store.counter(`${prefix}.update_success`),
      failure: store.counter(`${prefix}.update_failure`),
      rejected: store.counter(`${prefix}.update_rejected`),
      timeout: store.counter(`${prefix}.init_fetch_timeout`),
      reload: store.counter(`${prefix}.config_reload`),
      version: store.gauge(`${prefix}.version`),
      time: store.gauge(`${prefix}.update_time`),
      duration: store.histogram(`${prefix}.update_duration`),
    };
  }

  asked(): void {
    this.#store.add(this.#at.attempt, 1);
  }

  /** The stream has ended. */
  failed(): void {
    this.#store.add(this.#at.failure, 1);
  }

  timedOut(): void {
    this.#store.add(this.#at.timeout, 1);
  }

  /** Takes an update and counts what came of it; `take` gives the reason of a refusal. */
  async count(version: string, take: () => Promise<string | undefined>): Promise<string | undefined> {
    const started = performance.now();
    const reason = await take();
    // An answer is acknowledged, and the acknowledgement is the next attempt.
    this.asked();
    if (reason !== undefined) {
      this.#store.add(this.#at.rejected, 1);
      return reason;
    }
    this.#store.add(this.#at.success, 1);
    this.#store.add(this.#at.reload, 1);
    this.#store.set(this.#at.time, Date.now());
    this.#texts.setText(`${this.#prefix}.version_text`, version);
    // Envoy shows a hash of the version; 48 bits of one are exact in a double.
    this.#store.set(this.#at.version, Number.parseInt(hash("sha1", version, "hex").slice(0, 12), 16));
    this.#store.record(this.#at.duration, performance.now() - started);
    return undefined;
  }
}
