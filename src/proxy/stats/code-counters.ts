/** What an answer is counted under: its status, the class of that, and all of them. */
import type { StatIndex, StatsStore } from "./store.ts";

export function codeCounters(store: StatsStore, prefix: string, status: number): StatIndex[] {
  const names = [`upstream_rq_${status}`, `upstream_rq_${Math.floor(status / 100)}xx`, "upstream_rq_completed"];
  return names.map((name) => store.counter(prefix + name));
}
