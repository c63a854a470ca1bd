/**
 * A worker thread of the proxy. Each worker in it takes updates from its proxy's main thread (update.ts) and carries the traffic.
 * Bundled by itself.
 */
import { type MessagePort, parentPort } from "node:worker_threads";
import { shrinkHeap } from "../platform/release-memory.ts";
import type { FromWorker, ToWorker, WorkerData, WorkerStart } from "./update.ts";
import { WorkerState } from "./worker-state.ts";

const shrinkAfterMs = 3000;

if (parentPort === null) throw new Error("worker.ts is the entry of a worker thread");
// When it has loaded and compiled what it begins with. At once would have the proxy wait for it; once in a worker's life a request may.
setTimeout(shrinkHeap, shrinkAfterMs).unref();
parentPort.on("message", ({ data, port }: WorkerStart) => run(data, port));

function run(data: WorkerData, port: MessagePort): void {
  const state = new WorkerState(data, (message) => port.postMessage(message));
  port.on("message", (message: ToWorker) => {
    switch (message.type) {
      case "update":
        state.update(message);
        return;
      case "drain":
        state.drain(message);
        return;
      case "health":
        state.setHealth(message.failed);
        return;
      case "reopenLogs":
        state.reopenLogs();
        return;
      case "shrink":
        shrinkHeap();
        return;
      case "ping":
        port.postMessage({ type: "alive", sequence: message.sequence } satisfies FromWorker);
        return;
      case "stop":
        void state[Symbol.asyncDispose]().finally(() => port.close());
        return;
      default:
        message satisfies never;
    }
  });
}
