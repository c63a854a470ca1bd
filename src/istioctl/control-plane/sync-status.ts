/** How what a proxy was sent and what it took compare. Source: Istio pilot/pkg/xds/statusgen.go, istioctl/pkg/writer/pilot/status.go. */
import { type JsonObject, objectAt, textAt } from "../output/json-fields.ts";

export type SyncState = "SYNCED" | "STALE" | "ERROR" | "NOT_SENT";

export interface TypeSync {
  readonly typeUrl: string;
  readonly state: SyncState;
  /** RFC 3339; "" before the first. */
  readonly sentAt: string;
  readonly error: string;
}

/** One for each type that the proxy is subscribed to, in order of their URLs. */
export function typeSyncs(resources: JsonObject): readonly TypeSync[] {
  return Object.keys(resources)
    .sort()
    .map((typeUrl) => {
      const status = objectAt(resources, typeUrl);
      const [sent, acked, error] = [textAt(status, "sent"), textAt(status, "acked"), textAt(status, "lastError")];
      const state = error !== "" ? "ERROR" : sent === "" ? "NOT_SENT" : sent === acked ? "SYNCED" : "STALE";
      return { typeUrl, state, sentAt: textAt(status, "sentTime"), error };
    });
}

/** `SYNCED (27s)` */
export function syncText({ state, sentAt }: TypeSync, nowMs: number): string {
  if (state === "NOT_SENT") return "NOT SENT";
  const ageMs = nowMs - Date.parse(sentAt);
  return Number.isNaN(ageMs) ? state : `${state} (${ageText(ageMs)})`;
}

/** As Kubernetes tells ages: in one unit, or two where the larger counts little. Source: k8s.io/apimachinery/pkg/util/duration. */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.trunc(ms / 1000));
  const [minutes, hours, days] = [Math.trunc(seconds / 60), Math.trunc(seconds / 3600), Math.trunc(seconds / 86_400)];
  const pair = (value: number, unit: string, rest: number, restUnit: string) =>
    rest === 0 ? `${value}${unit}` : `${value}${unit}${rest}${restUnit}`;
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return pair(minutes, "m", seconds % 60, "s");
  if (hours < 3) return `${minutes}m`;
  if (hours < 8) return pair(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  if (hours < 192) return pair(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  const years = Math.trunc(days / 365);
  return days < 2920 ? pair(years, "y", days % 365, "d") : `${years}y`;
}
