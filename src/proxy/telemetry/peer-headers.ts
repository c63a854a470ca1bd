/** Peers as HTTP headers tell of them: a Struct in base64. Peers are few and say the same each time, so each text is read once. */
import { decodePeer, encodePeer, type WorkloadPeer } from "./workload-peer.ts";

/** As many as Istio's proxy keeps. */
const maxPeers = 500;

export class PeerHeaders {
  readonly #additionalLabels: readonly string[];
  readonly #known = new Map<string, WorkloadPeer | null>();
  #lastText = "";
  #lastPeer: WorkloadPeer | null = null;

  constructor(additionalLabels: readonly string[]) {
    this.#additionalLabels = additionalLabels;
  }

  write(peer: WorkloadPeer): string {
    return Buffer.from(encodePeer(peer)).toString("base64");
  }

  /** The same object for the same text; null for none, and for what is none. Hot. */
  read(text: string): WorkloadPeer | null {
    if (text === "") return null;
    if (text === this.#lastText) return this.#lastPeer;
    let peer = this.#known.get(text);
    if (peer === undefined) {
      peer = decodePeer(Buffer.from(text, "base64"), this.#additionalLabels) ?? null;
      if (this.#known.size >= maxPeers) this.#known.clear();
      // A copy: the text is a part of the whole head that it came in.
      this.#known.set(Buffer.from(text, "latin1").toString("latin1"), peer);
    }
    this.#lastText = text;
    this.#lastPeer = peer;
    return peer;
  }
}
