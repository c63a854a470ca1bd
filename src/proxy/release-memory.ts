/** Memory of a process whose only proxy it is, and that does little beside. */
import { ReleaseAfterBursts } from "../platform/release-after-bursts.ts";
import { releaseMemory } from "../platform/release-memory.ts";
import type { ProxyServer } from "./server.ts";

/** After the workers have collected what starting took, which brings back pages of the executable. */
const settleMs = 4000;
/** As above, for workers that are told to. */
const workersMs = 500;
/** Some ten thousand requests. */
const worthCpuMs = 1000;

/** Gives back what starting took, and then what each burst of requests took, five seconds after it. Ends with the disposable. */
export function releaseMemoryOf(server: Pick<ProxyServer, "live" | "shrinkWorkers">): Disposable {
  const release = () => {
    server.shrinkWorkers();
    setTimeout(releaseMemory, workersMs).unref();
  };
  void server.live.then(
    () => setTimeout(releaseMemory, settleMs).unref(),
    () => {}, // whoever started it hears of it
  );
  return new ReleaseAfterBursts({ spent: cpuMs, worth: worthCpuMs, release });
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
