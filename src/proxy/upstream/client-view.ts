/** What an endpoint can be shown, or told, of the client whose requests it gets. A DownstreamConnection is one. */
import type { Tlv } from "../proxy-protocol/wire.ts";

/** The address that endpoints see instead of the proxy's, and the mark of its packets (envoy.filters.listener.original_src). */
export interface OriginalSource {
  readonly ip: string;
  readonly mark: number;
}

export interface ClientView {
  /** null: the proxy's own address. */
  readonly originalSource: OriginalSource | null;
  /** "" for a client of a Unix domain socket. */
  readonly remoteIp: string;
  readonly remotePort: number;
  readonly localIp: string;
  readonly localPort: number;
  /** Extensions of its PROXY header that may go on. */
  readonly passedTlvs: readonly Tlv[];
  /** `forget` is called once it is closed. */
  whenGone(forget: () => void): void;
}
