/** What the control plane says of itself: /metrics, /version, /ready and the /debug pages. Who may see which is the caller's business. */
import { revision, version } from "../../lib/version.ts";
import type { DiscoveryServer } from "../discovery-server.ts";
import { DebugError, debugPages } from "./handlers.ts";

export interface MonitoringPage {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

const plainText = "text/plain; charset=utf-8";

export function isDebugPath(path: string): boolean {
  return path === "/debug" || path.startsWith("/debug/");
}

/** Rejects with DebugError, as with every other failure. */
export async function monitoringPage(server: DiscoveryServer, path: string, query: URLSearchParams): Promise<MonitoringPage> {
  if (path === "/metrics") {
    server.collectMetrics();
    const { registry } = server.metrics;
    return { status: 200, contentType: registry.contentType, body: await registry.metrics() };
  }
  if (path === "/version") return { status: 200, contentType: plainText, body: `${version}-${revision}-Clean` };
  if (path === "/ready") return { status: server.isReady ? 200 : 503, contentType: plainText, body: "" };
  if (!isDebugPath(path)) return { status: 404, contentType: plainText, body: "404 page not found\n" };
  const name = path.slice("/debug/".length) || "list";
  const page = Object.hasOwn(debugPages, name) ? debugPages[name] : undefined;
  if (!page) throw new DebugError(404, `no debug page "${name}"; see /debug/list`);
  return { status: 200, contentType: "application/json", body: `${JSON.stringify(page.handle(server, query), undefined, 2)}\n` };
}
