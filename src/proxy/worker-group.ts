/**
 * The workers of a proxy, seen from the main thread: started together, told the same updates in the same order, asked nothing.
 *
 * A worker that dies takes its connections with it and may have died of the configuration that all of them run, so there is
 * no restarting one: `failed` rejects, and the program ends with an error and is started again by what supervises it.
 */
import type { Log } from "../lib/log.ts";
import { allocateCells } from "./shared-cells.ts";
import type { StatsReader, StatsSource } from "./stats/stats-reader.ts";
import type { FromWorker, ToWorker, WorkerApplied, WorkerData, WorkerDrain, WorkerHostEvent, WorkerUpdate } from "./update.ts";
import { type WorkerConnection, WorkerThread } from "./worker-thread.ts";

/** In the type URL of whatever asks for shared numbers: the local rate limits of HTTP and of connections. */
const userOfCells = ".local_ratelimit.";

/** What a worker that is told to stop may take for it before its thread is ended. */
const stopTimeoutMs = 5000;

export type UpdateParts = Omit<WorkerUpdate, "type" | "sequence" | "cells">;
export type DrainParts = Omit<WorkerDrain, "type" | "sequence">;

/** What came of an update: errors of any worker, and the addresses that are bound, by listener name. */
export interface UpdateOutcome {
  readonly errors: WorkerApplied["errors"];
  readonly bound: WorkerApplied["bound"];
}

export interface WorkerGroupOptions {
  readonly concurrency: number;
  /** Threads of somebody else's to run in, one after the other; default: a thread of its own for each worker. */
  readonly threads?: readonly WorkerThread[] | undefined;
  readonly data: Omit<WorkerData, "index" | "concurrency">;
  readonly stats: StatsReader;
  readonly log: Log;
  readonly onHostEvent?: (event: WorkerHostEvent) => void;
}

interface Waiting {
  readonly answers: WorkerApplied[];
  readonly resolve: (outcome: UpdateOutcome) => void;
  readonly reject: (error: Error) => void;
}

/** The one question whether they live that is open; a worker that hangs must not collect more of them. */
interface Ping {
  readonly sequence: number;
  readonly answered: Promise<void>;
  readonly resolve: () => void;
  left: number;
}

export class WorkerGroup implements AsyncDisposable {
  /** Rejects when a worker ends without having been told to. Never resolves. */
  readonly failed: Promise<never>;
  #workers: WorkerConnection[] = [];
  #ownThreads: WorkerThread[] = [];
  #sources: StatsSource[] = [];
  #sequence = 0;
  #waiting = new Map<number, Waiting>();
  #ping: Ping | undefined;
  #fail: (error: Error) => void;
  #isStopping = false;
  #options: WorkerGroupOptions;

  private constructor(options: WorkerGroupOptions) {
    this.#options = options;
    const { promise, reject } = Promise.withResolvers<never>();
    this.failed = promise;
    this.failed.catch(() => {}); // whoever started us looks at it; unhandled it must not end the process by itself
    this.#fail = (error) => {
      reject(error);
      for (const { reject: rejectWaiting } of this.#waiting.values()) rejectWaiting(error);
      this.#waiting.clear();
    };
  }

  static start(options: WorkerGroupOptions): WorkerGroup {
    const group = new WorkerGroup(options);
    for (let index = 0; index < options.concurrency; index++) group.#startWorker(index);
    return group;
  }

  get concurrency(): number {
    return this.#workers.length;
  }

  /** Resolves when every worker has the update in force. */
  update(parts: UpdateParts): Promise<UpdateOutcome> {
    const resources = [...(parts.routes ?? []), ...(parts.listeners ?? [])].map(({ bytes }) => bytes);
    const cells = allocateCells(resources, userOfCells);
    return this.#ask((sequence) => ({ type: "update", sequence, ...parts, ...(cells && { cells }) }));
  }

  drain(parts: DrainParts): Promise<UpdateOutcome> {
    return this.#ask((sequence) => ({ type: "drain", sequence, ...parts }));
  }

  setHealthFailed(failed: boolean): void {
    this.#post({ type: "health", failed });
  }

  reopenLogs(): void {
    this.#post({ type: "reopenLogs" });
  }

  /** Has every worker collect its heap. */
  shrink(): void {
    this.#post({ type: "shrink" });
  }

  /** Resolves when every worker has got round to answering; while one hangs, it does not. */
  checkAlive(): Promise<void> {
    if (!this.#ping) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#ping = { sequence: ++this.#sequence, answered: promise, resolve, left: this.#workers.length };
      this.#post({ type: "ping", sequence: this.#ping.sequence });
    }
    return this.#ping.answered;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    this.#post({ type: "stop" });
    const patience = AbortSignal.timeout(stopTimeoutMs);
    const overdue = new Promise<void>((resolve) => patience.addEventListener("abort", () => resolve()));
    await Promise.race([Promise.all(this.#workers.map(({ stopped }) => stopped)), overdue]);
    await Promise.all(this.#ownThreads.map((thread) => thread[Symbol.asyncDispose]()));
    for (const { reject } of this.#waiting.values()) reject(new Error("the proxy is stopping"));
    this.#waiting.clear();
    for (const source of this.#sources) source.detach();
  }

  #startWorker(index: number): void {
    const { data, concurrency, threads, stats } = this.#options;
    const source = stats.attach();
    let thread = threads?.[index % threads.length];
    if (thread === undefined) {
      thread = new WorkerThread(`worker_${index}`);
      this.#ownThreads.push(thread);
    }
    const worker = thread.start({ ...data, index, concurrency }, (message) => this.#receive(message, source));
    void worker.died.then((reason) => {
      if (!this.#isStopping) this.#fail(new Error(`Worker ${index} ${reason.message}`, { cause: reason.cause }));
    });
    this.#workers.push(worker);
    this.#sources.push(source);
  }

  #ask(message: (sequence: number) => ToWorker): Promise<UpdateOutcome> {
    const sequence = ++this.#sequence;
    const { promise, resolve, reject } = Promise.withResolvers<UpdateOutcome>();
    if (this.#isStopping) {
      reject(new Error("the proxy is stopping"));
      return promise;
    }
    this.#waiting.set(sequence, { answers: [], resolve, reject });
    this.#post(message(sequence));
    return promise;
  }

  #post(message: ToWorker): void {
    for (const worker of this.#workers) worker.post(message);
  }

  #receive(message: FromWorker, source: StatsSource): void {
    switch (message.type) {
      case "applied": {
        const waiting = this.#waiting.get(message.sequence);
        if (!waiting) return;
        waiting.answers.push(message);
        if (waiting.answers.length < this.#workers.length) return;
        this.#waiting.delete(message.sequence);
        waiting.resolve(merge(waiting.answers));
        return;
      }
      case "alive": {
        const ping = this.#ping;
        if (ping?.sequence !== message.sequence || --ping.left > 0) return;
        this.#ping = undefined;
        ping.resolve();
        return;
      }
      case "stats":
        source.take(message);
        return;
      case "hostEvent":
        this.#options.onHostEvent?.(message);
        return;
      case "log": {
        const scope = this.#options.log.scope(message.logger);
        if (message.level === "critical" || message.level === "error") scope.error(message.message);
        else if (message.level === "warning") scope.warn(message.message);
        else if (message.level === "info") scope.info(message.message);
        else scope.debug(message.message);
        return;
      }
      default:
        message satisfies never;
    }
  }
}

/** Every worker answers alike, but one may fail where another does not; each complaint counts once. */
function merge(answers: readonly WorkerApplied[]): UpdateOutcome {
  const errors = new Map<string, WorkerApplied["errors"][number]>();
  const bound = new Map<string, WorkerApplied["bound"][number]>();
  for (const answer of answers) {
    for (const error of answer.errors) errors.set(`${error.resource} ${error.name}`, error);
    for (const address of answer.bound) bound.set(`${address.name} ${address.address}`, address);
  }
  return { errors: [...errors.values()], bound: [...bound.values()] };
}
