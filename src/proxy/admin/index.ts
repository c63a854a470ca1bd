/** Every path of the admin interface, sorted. To add one: its handler, and its line here. */
import type { AdminHandler } from "./admin-handler.ts";
import { certs } from "./certs.ts";
import { clusters } from "./clusters.ts";
import { configDump } from "./config-dump.ts";
import { contention, hotRestartVersion, initDump, memory, recentLookups, runtime, runtimeModify } from "./diagnostics.ts";
import { help, home } from "./home.ts";
import { drainListeners, healthcheckFail, healthcheckOk, quit, ready, reopenLogs } from "./lifecycle.ts";
import { listeners } from "./listeners.ts";
import { logging } from "./logging.ts";
import { serverInfo } from "./server-info.ts";
import { resetCounters, stats, statsPrometheusPath } from "./stats.ts";

export const adminHandlers: readonly AdminHandler[] = [
  home,
  certs,
  clusters,
  configDump,
  contention,
  drainListeners,
  healthcheckFail,
  healthcheckOk,
  help,
  hotRestartVersion,
  initDump,
  listeners,
  logging,
  memory,
  quit,
  ready,
  reopenLogs,
  resetCounters,
  runtime,
  runtimeModify,
  serverInfo,
  stats,
  statsPrometheusPath,
  recentLookups,
];
