/** What is counted for the filter, and for the clusters whose requests were asked about. */
import type { ExtAuthz } from "../../../../api/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import type { FilterCompileContext } from "../../../http/http-filter.ts";
import type { HttpStream } from "../../../http/http-stream.ts";
import type { StatIndex, StatsStore } from "../../../stats/store.ts";

const names = ["ok", "denied", "error", "disabled", "failure_mode_allowed"] as const;

type Name = (typeof names)[number];
type Counted = Exclude<Name, "disabled">;

/** What we don't do, so that it stays 0. */
const unused = [
  "filter_state_name_collision",
  "ignored_dynamic_metadata",
  "invalid",
  "omitted_response_headers",
  "request_header_limits_reached",
  "response_header_limits_reached",
  "shadow_denied",
  "shadow_error",
] as const;

export class AuthorizationStats {
  readonly #store: StatsStore;
  readonly #at: Readonly<Record<Name, StatIndex>>;
  readonly #prefix: string;
  readonly #chargesClusters: boolean;
  /** `cluster.NAME.ext_authz.*`, made when first counted. */
  readonly #clusters = new Map<string, StatIndex>();

  constructor(config: ExtAuthz, { stats, statPrefix }: FilterCompileContext) {
    this.#store = stats;
    this.#prefix = config.statPrefix === "" ? "ext_authz." : `ext_authz.${config.statPrefix}.`;
    const at: Record<string, StatIndex> = {};
    for (const name of [...names, ...unused]) at[name] = stats.counter(`${statPrefix}${this.#prefix}${name}`);
    this.#at = at as Record<Name, StatIndex>;
    this.#chargesClusters = config.chargeClusterResponseStats ?? true;
  }

  count(name: Name): void {
    this.#store.add(this.#at[name], 1);
  }

  /** For the filter, and for the cluster that the request goes to. */
  countFor({ info }: HttpStream, name: Counted): void {
    this.count(name);
    if (info.upstreamClusterRaw === "") return;
    const key = `cluster.${info.upstreamCluster.replaceAll(":", "_")}.${this.#prefix}${name}`;
    let index = this.#clusters.get(key);
    if (index === undefined) {
      index = this.#store.counter(key);
      this.#clusters.set(key, index);
    }
    this.#store.add(index, 1);
  }

  /** A denial counts as an answer of the cluster. */
  chargeCluster(stream: HttpStream, status: number): void {
    if (this.#chargesClusters) stream.cluster?.stats.countResponse(status, true);
  }
}
