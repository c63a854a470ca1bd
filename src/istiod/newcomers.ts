/**
 * Connections of agents that have been taken and have not yet said what they want. When hundreds of machines join at once each is to have its
 * certificate before the first ones are given all their configuration: a handshake and a signature take a millisecond or two, that takes many.
 */
export class Newcomers {
  /** By `ip:port`: when it was taken. The oldest first. */
  readonly #takenAt = new Map<string, number>();

  onTaken(peer: string): void {
    this.#takenAt.set(peer, performance.now());
  }

  /** It has called, or has gone. */
  onHeard(peer: string): void {
    this.#takenAt.delete(peer);
  }

  /** There are some, who have not been silent for so long that they may never say anything. */
  areWaiting(): boolean {
    const now = performance.now();
    for (const [peer, takenAt] of this.#takenAt) {
      if (now - takenAt < patienceMs) return true;
      this.#takenAt.delete(peer);
    }
    return false;
  }
}

/** A client on the other side of the world has made its handshake in that time. */
const patienceMs = 1000;
