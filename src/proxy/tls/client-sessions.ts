/**
 * Sessions that endpoints gave us, to be taken up again by the next connection to the same endpoint (`max_session_keys`). Envoy keeps them
 * for a cluster as a whole; by endpoint more of them are taken up, and none stands for another peer than the one that it was made with.
 */
import type * as tls from "node:tls";

/** Endpoints whose sessions are remembered. */
const maxPeers = 1000;

export interface Kept {
  readonly session: Buffer;
  /** DER: a connection that takes the session up again is not shown the certificate anew. */
  readonly peerCertificate: Buffer | null;
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

  take(peer: string): Kept | undefined {
    const kept = this.#peers.get(peer);
    const [newest] = kept ?? [];
    if (newest?.isSingleUse) kept!.shift();
    return newest;
  }

  /** Keeps what the socket is given as soon as the returned function is called, which says that the peer is good. */
  collect(socket: tls.TLSSocket, peer: string): (peerCertificate: Buffer | null) => void {
    let good: { readonly peerCertificate: Buffer | null } | null = null;
    const early: Buffer[] = [];
    const keep = (session: Buffer) => this.#put(peer, { session, isSingleUse: socket.getProtocol() === "TLSv1.3", ...good! });
    socket.on("session", (session) => {
      if (good !== null) keep(session);
      else early.push(session);
    });
    return (peerCertificate) => {
      good = { peerCertificate };
      for (const session of early) keep(session);
    };
  }

  clear(): void {
    this.#peers.clear();
  }

  #put(peer: string, made: Kept): void {
    const kept = this.#peers.get(peer) ?? [];
    this.#peers.delete(peer);
    if (this.#peers.size >= maxPeers) this.#peers.delete(this.#peers.keys().next().value!);
    this.#peers.set(peer, [made, ...kept].slice(0, this.#maxEach));
  }
}
