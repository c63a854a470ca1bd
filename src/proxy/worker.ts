/** A worker thread of the proxy: takes updates from the main thread (update.ts) and carries the traffic. Bundled by itself. */
import { parentPort, workerData } from "node:worker_threads";
import { shrinkHeap } from "../platform/release-memory.ts";
import type { FromWorker, ToWorker, WorkerData } from "./update.ts";
import { WorkerState } from "./worker-state.ts";

const port = parentPort;
if (port === null) throw new Error("worker.ts is the entry of a worker thread");
// Before there is a request to be held up by it.
shrinkHeap();
const state = new WorkerState(workerData as WorkerData, (message) => port.postMessage(message));

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
    case "ping":
      port.postMessage({ type: "alive", sequence: message.sequence } satisfies FromWorker);
      return;
    case "stop":
      void state[Symbol.asyncDispose]().finally(() => process.exit(0));
      return;
    default:
      message satisfies never;
  }
});
