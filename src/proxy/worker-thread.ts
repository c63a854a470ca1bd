/**
 * A worker thread, seen from the main thread. It runs one worker of one proxy, as a rule; several proxies of one process may share
 * threads (quickstart), each with a worker of its own in them, which knows nothing of the others.
 */
import { MessageChannel, Worker } from "node:worker_threads";
import { isEmbedded, runEmbedded } from "../platform/embedded.ts";
import type { FromWorker, ToWorker, WorkerData, WorkerStart } from "./update.ts";

/**
 * Room for short-lived objects in each thread. V8 would take 48 MiB of it under load; with 8 a request costs no more
 * (`npm run bench`), and with 4 two and a half times as much.
 */
const youngGenerationMiB = 8;

export interface WorkerConnection {
  post(message: ToWorker): void;
  /** Resolves when the worker is no more, however that came. */
  readonly stopped: Promise<void>;
  /** Resolves with the reason when its thread ends. */
  readonly died: Promise<Error>;
}

export class WorkerThread implements AsyncDisposable {
  readonly #thread: Worker;
  readonly #died: Promise<Error>;

  constructor(name: string) {
    const resourceLimits = { maxYoungGenerationSizeMb: youngGenerationMiB };
    const options = { resourceLimits, name, stdout: false, stderr: false };
    this.#thread = isEmbedded()
      ? new Worker(`(${String(runEmbedded)})("proxy-worker")`, { ...options, eval: true })
      : new Worker(new URL("./worker.ts", import.meta.url), options);
    const { promise, resolve } = Promise.withResolvers<Error>();
    this.#died = promise;
    this.#thread.once("error", (cause: Error) => resolve(new Error(`failed: ${cause.message}`, { cause })));
    this.#thread.once("exit", (code) => resolve(new Error(`ended with code ${code}`)));
  }

  /** Runs a worker, beside those that are there. */
  start(data: WorkerData, onMessage: (message: FromWorker) => void): WorkerConnection {
    const { port1: port, port2: other } = new MessageChannel();
    const start: WorkerStart = { data, port: other };
    this.#thread.postMessage(start, [other]);
    port.on("message", onMessage);
    const stopped = new Promise<void>((resolve) => port.once("close", resolve));
    return { post: (message) => port.postMessage(message), stopped, died: this.#died };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
  }
}
