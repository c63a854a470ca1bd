/**
 * The agent as a service of systemd: says when it is ready and that it lives, and hands over to a new process when it is asked to.
 *
 *   systemctl reload ──> machine reload ──> this ──starts──> successor ──serves──> systemd is told its PID ──> this one retires
 */
import { log } from "../lib/log.ts";
import type { ServiceManager } from "../platform/service-manager.ts";
import type { Agent } from "./agent.ts";
import { type HandoverAnswer, HandoverSocket, handoverPath } from "./handover/handover-socket.ts";
import type { Predecessor } from "./handover/predecessor.ts";
import { type StartedAs, Successor } from "./handover/successor.ts";
import type { ConfigSource } from "./last-good/control-plane-choice.ts";

const scope = log.scope("service");

export interface ServiceOptions {
  readonly manager: ServiceManager;
  readonly agent: Agent;
  /** Address, for people. */
  readonly controlPlane: string;
  readonly startedAs: StartedAs;
  /** The process that hands over to this one. */
  readonly predecessor?: Predecessor | undefined;
  /** Where it can be asked to hand over; absent: it can't. */
  readonly runtimeDirectory?: string | undefined;
}

const sayings: Readonly<Record<ConfigSource, string>> = {
  none: "Waiting for configuration from",
  "control plane": "Serving, configured by",
  "last good": "Serving the last good configuration, waiting for",
};

/** Within the time that systemd gives a reload. */
const successorReadyMs = 60_000;

export class Service implements AsyncDisposable {
  readonly #options: ServiceOptions;
  readonly #stop = new AbortController();
  readonly #handedOver = Promise.withResolvers<Successor>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #running: Promise<void>;
  #socket: HandoverSocket | undefined;
  #underWay: Promise<HandoverAnswer> | undefined;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    this.#running = this.#run().catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#failed.reject(error);
    });
    this.#failed.promise.catch(() => {}); // may not be waited for
  }

  static start(options: ServiceOptions): Service {
    return new Service(options);
  }

  /** Resolves when the service is another process's. Rejects when this one was to take over and nobody hands over any more. */
  get handedOver(): Promise<Successor> {
    return Promise.race([this.#handedOver.promise, this.#failed.promise]);
  }

  /** From now on this process only ends. */
  stopping(): void {
    this.#stop.abort();
    this.#options.manager.stopping();
  }

  draining(): void {
    this.#options.manager.status("Draining");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#socket?.[Symbol.asyncDispose]();
  }

  /** Ready is who serves what the control plane gave it; one that is away may take its time, as long as this process lives. */
  async #run(): Promise<void> {
    const { manager, agent, predecessor } = this.#options;
    const { signal } = this.#stop;
    if (predecessor) {
      await agent.ready(signal);
      await agent.open();
      predecessor.sayReady();
      await predecessor.yours;
    }
    this.#say();
    agent.troubles.onChange(() => {
      if (!signal.aborted && !this.#underWay) this.#say();
    });
    manager.watch(async () => {
      await agent.checkAlive();
      if (!signal.aborted) this.#say();
    });
    await agent.ready(signal);
    this.#say();
    // Who has waited for it to be ready may want a reload at once.
    await this.#listen();
    if (!signal.aborted) manager.ready();
  }

  async #listen(): Promise<void> {
    const { runtimeDirectory } = this.#options;
    if (runtimeDirectory === undefined) return;
    // One at a time: who asks meanwhile gets the same answer.
    const socket = await HandoverSocket.listen(handoverPath(runtimeDirectory), () => (this.#underWay ??= this.#handOver()));
    if (this.#stop.signal.aborted) await socket[Symbol.asyncDispose]();
    else this.#socket = socket;
  }

  async #handOver(): Promise<HandoverAnswer> {
    const { manager, agent, startedAs } = this.#options;
    // An Envoy of the user's has ports that no second one can have.
    if (!agent.canRetire) return {};
    manager.status("Handing over to a new process");
    let successor: Successor | undefined;
    let pid: number;
    try {
      successor = await Successor.start(startedAs, { servesIdentity: agent.servesIdentity });
      pid = await successor.ready(successorReadyMs);
    } catch (error) {
      successor?.abandon();
      this.#underWay = undefined;
      const problem = (error as Error).message;
      scope.error("this process goes on: it can't hand over", { reason: problem });
      this.#say();
      return { problem };
    }
    scope.info("handed over", { pid });
    this.#stop.abort();
    // In this order on one socket: the first word of the new process comes after the one that makes it the service's.
    manager.handOver(pid);
    successor.sayYours();
    this.#handedOver.resolve(successor);
    return { pid };
  }

  #say(): void {
    const { manager, agent, controlPlane } = this.#options;
    manager.status([`${sayings[agent.configSource]} ${controlPlane}`, ...agent.troubles.present].join("; "));
  }
}
