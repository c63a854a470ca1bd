/**
 * Statistics of the HTTP/2 codec, by Envoy's names: `http2.*` of all clients' connections, `cluster.NAME.http2.*` of those to its endpoints.
 * Source: Envoy source/common/http/http2/codec_stats.h; what this codec has no notion of is left out.
 */
import type { StatIndex, StatsStore } from "../stats/store.ts";

const counters = [
  "dropped_headers_with_underscores",
  "goaway_sent",
  "header_overflow",
  "headers_cb_no_stream",
  "inbound_empty_frames_flood",
  "inbound_priority_frames_flood",
  "keepalive_timeout",
  "outbound_control_flood",
  "requests_rejected_with_underscores_in_headers",
  "rx_messaging_error",
  "rx_reset",
  // Of requests alone.
  "trailers",
  "tx_reset",
] as const;

export type CodecCounter = (typeof counters)[number];

export class Http2CodecStats {
  readonly #store: StatsStore;
  readonly #at: Readonly<Record<CodecCounter, StatIndex>>;
  readonly #streamsActive: StatIndex;

  /** `prefix`: "" or `cluster.NAME.`. */
  constructor(store: StatsStore, prefix: string) {
    this.#store = store;
    this.#at = Object.fromEntries(counters.map((name) => [name, store.counter(`${prefix}http2.${name}`)])) as Record<
      CodecCounter,
      StatIndex
    >;
    this.#streamsActive = store.gauge(`${prefix}http2.streams_active`);
  }

  count(name: CodecCounter): void {
    this.#store.add(this.#at[name], 1);
  }

  /** Hot. */
  streams(change: number): void {
    this.#store.values[this.#streamsActive]! += change;
  }
}
