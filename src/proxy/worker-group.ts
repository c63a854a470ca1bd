/**
 * The worker threads, seen from the main thread: started together, told the same updates in the same order, asked nothing.
 *
 * A worker that dies takes its connections with it and may have died of the configuration that all of them run, so there is
 * no restarting one: `failed` rejects, and the program ends with an error and is started again by what supervises it.
 */
import { getAsset, isSea } from "node:sea";
import { Worker } from "node:worker_threads";
import type { Log } from "../lib/log.ts";
import { allocateCells } from "./shared-cells.ts";
import type { StatsReader, StatsSource } from "./stats/stats-reader.ts";
import type { FromWorker, ToWorker, WorkerApplied, WorkerData, WorkerDrain, WorkerUpdate } from "./update.ts";

/**
 * Room for short-lived objects in each worker. V8 would take 48 MiB of it under load; with 8 a request costs no more
 * (`npm run bench`), and with 4 two and a half times as much.
 */
const youngGenerationMiB = 8;

/** In the type URL of whatever asks for shared numbers: the local rate limits of HTTP and of connections. */
const userOfCells = ".local_ratelimit.";

export type UpdateParts = Omit<WorkerUpdate, "type" | "sequence" | "cells">;
export type DrainParts = Omit<WorkerDrain, "type" | "sequence">;

/** What came of an update: errors of any worker, and the addresses that are bound, by listener name. */
export interface UpdateOutcome {
  readonly errors: WorkerApplied["errors"];
  readonly bound: WorkerApplied["bound"];
}

export interface WorkerGroupOptions {
  readonly concurrency: number;
  readonly data: Omit<WorkerData, "index" | "concurrency">;
  readonly stats: StatsReader;
  readonly log: Log;
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
  #workers: Worker[] = [];
  #sources: StatsSource[] = [];
  #exits: Promise<unknown>[] = [];
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
    const patience = setTimeout(() => {
      for (const worker of this.#workers) void worker.terminate();
    }, 5000);
    await Promise.all(this.#exits);
    clearTimeout(patience);
    for (const { reject } of this.#waiting.values()) reject(new Error("the proxy is stopping"));
    this.#waiting.clear();
    for (const source of this.#sources) source.detach();
  }

  #startWorker(index: number): void {
    const workerData: WorkerData = { ...this.#options.data, index, concurrency: this.#options.concurrency };
    const resourceLimits = { maxYoungGenerationSizeMb: youngGenerationMiB };
    const options = { workerData, resourceLimits, name: `worker_${index}`, stdout: false, stderr: false };
    const worker = isSea()
      ? new Worker(getAsset("proxy-worker", "utf8"), { ...options, eval: true })
      : new Worker(new URL("./worker.ts", import.meta.url), options);
    const source = this.#options.stats.attach();
    worker.on("message", (message: FromWorker) => this.#receive(message, source));
    worker.on("error", (cause: Error) => this.#fail(new Error(`Worker ${index} failed: ${cause.message}`, { cause })));
    this.#exits.push(
      new Promise<void>((resolve) => {
        worker.on("exit", (code) => {
          if (!this.#isStopping) this.#fail(new Error(`Worker ${index} ended with code ${code}`));
          resolve();
        });
      }),
    );
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
    for (const worker of this.#workers) worker.postMessage(message);
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
