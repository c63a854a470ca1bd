/** PINGs that find out whether a peer is still there (Http2ProtocolOptions.connection_keepalive). */
import { ConfigError } from "../../api/config-error.ts";
import type { KeepaliveSettings } from "../../api/gen/envoy/config/core/v3/protocol_pb.js";
import { durationMs } from "../duration.ts";

export interface KeepaliveOptions {
  readonly intervalMs: number;
  /** For the answer. */
  readonly timeoutMs: number;
  /** Longest that an interval is drawn out by, so that connections don't ask together; share of it. */
  readonly jitter: number;
}

/** null: nobody is asked. */
export function compileKeepalive(settings: KeepaliveSettings | undefined): KeepaliveOptions | null {
  if (settings === undefined) return null;
  const timeoutMs = durationMs(settings.timeout, 0);
  if (timeoutMs < 1) throw new ConfigError("KeepaliveSettings: timeout: value must be greater than or equal to 1ms");
  const intervalMs = durationMs(settings.interval, 0);
  if (intervalMs < 1) return null;
  return { intervalMs, timeoutMs, jitter: (settings.intervalJitter?.value ?? 15) / 100 };
}

export class Keepalive {
  readonly #options: KeepaliveOptions;
  readonly #ask: () => void;
  readonly #onSilence: () => void;
  #timer: NodeJS.Timeout;

  /** `ask` sends a PING; `onSilence` hears when that was not answered in time. */
  constructor(options: KeepaliveOptions, ask: () => void, onSilence: () => void) {
    this.#options = options;
    this.#ask = ask;
    this.#onSilence = onSilence;
    this.#timer = this.#wait();
  }

  #wait(): NodeJS.Timeout {
    const { intervalMs, jitter, timeoutMs } = this.#options;
    const timer = setTimeout(
      () => {
        this.#ask();
        this.#timer = setTimeout(this.#onSilence, timeoutMs);
        this.#timer.unref();
      },
      intervalMs * (1 + jitter * Math.random()),
    );
    return timer.unref();
  }

  /** The peer is there: it is asked again when the next interval is over. */
  answered(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#wait();
  }

  dispose(): void {
    clearTimeout(this.#timer);
  }
}
