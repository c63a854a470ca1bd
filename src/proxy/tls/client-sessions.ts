/**
 * Sessions that endpoints gave us, to be taken up again by the next connection to the same endpoint (`max_session_keys`). Envoy keeps them
 * for a cluster as a whole; by endpoint more of them are taken up, and none stands for another peer than the one that it was made with.
 */
import type * as tls from "node:tls";

/** Endpoints whose sessions are remembered. */
const maxPeers = 1000;

interface Kept {
  readonly session: Buffer;
  /** TLS 1.3: a session that is used twice tells an onlooker that both are the same client. */
  readonly isSingleUse: boolean;
}

export class ClientSessions {
  readonly #maxEach: number;
  /** The newest first. */
  readonly #peers = new Map<string, Kept[]>();

  constructor(maxEach: number) {
    this.#maxEach = maxEach;
  }

  get isKept(): boolean {
    return this.#maxEach > 0;
  }

  take(peer: string): Buffer | undefined {
    const kept = this.#peers.get(peer);
    const [newest] = kept ?? [];
    if (newest?.isSingleUse) kept!.shift();
    return newest?.session;
  }

  /** Keeps what the socket is given as soon as the returned function is called, which says that the peer is good. */
  collect(socket: tls.TLSSocket, peer: string): () => void {
    let isGood = false;
    const early: Buffer[] = [];
    socket.on("session", (session) => {
      if (isGood) this.#put(peer, session, socket.getProtocol() === "TLSv1.3");
      else early.push(session);
    });
    return () => {
      isGood = true;
      for (const session of early) this.#put(peer, session, socket.getProtocol() === "TLSv1.3");
    };
  }

  clear(): void {
    this.#peers.clear();
  }

  #put(peer: string, session: Buffer, isSingleUse: boolean): void {
    const kept = this.#peers.get(peer) ?? [];
    this.#peers.delete(peer);
    if (this.#peers.size >= maxPeers) this.#peers.delete(this.#peers.keys().next().value!);
    this.#peers.set(peer, [{ session, isSingleUse }, ...kept].slice(0, this.#maxEach));
  }
}
