/** The relays of all agents that are connected, by the name of their Pods. */
import type { AdminAnswer, AdminQuestion, AgentRelay } from "./agent-relay.ts";
import { RelayError } from "./agent-relay.ts";
import { formatPodName, type PodName } from "./pod-name.ts";

/** Of all agents together: answers are held in memory whole. */
const maxOpenQuestions = 8;

export class AgentRelays {
  readonly #byPod = new Map<string, AgentRelay>();
  #open = 0;

  /** An agent that comes again has lost its first stream, whether it has been noticed or not. Disposal takes this one away alone. */
  add(pod: PodName, relay: AgentRelay): Disposable {
    const key = formatPodName(pod);
    this.#byPod.get(key)?.[Symbol.dispose]();
    this.#byPod.set(key, relay);
    return {
      [Symbol.dispose]: () => {
        if (this.#byPod.get(key) === relay) this.#byPod.delete(key);
        relay[Symbol.dispose]();
      },
    };
  }

  /** Rejects with RelayError. */
  async ask(pod: PodName, question: AdminQuestion): Promise<AdminAnswer> {
    const relay = this.#byPod.get(formatPodName(pod));
    if (!relay) throw new RelayError("gone", "no agent of that name is connected to this control plane");
    if (this.#open >= maxOpenQuestions) throw new RelayError("busy", "too many proxies are asked at once");
    this.#open++;
    try {
      return await relay.ask(question);
    } finally {
      this.#open--;
    }
  }
}
