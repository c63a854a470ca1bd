/** What the choice of an endpoint goes by for one request: its hash, and the endpoints and priorities that it has tried. */
import { type HashPolicy, hashRequest, type RequestHash } from "../../router/hash-policy.ts";
import type { RetryPolicy } from "../../router/retry-policy.ts";
import type { HeaderList, StreamInfo } from "../../stream-info.ts";
import type { Cluster } from "../../upstream/cluster.ts";
import type { Host } from "../../upstream/host.ts";
import { PreviousPriorities } from "../../upstream/previous-priorities.ts";

export class HostChoice {
  readonly #hash: RequestHash | null;
  #tried: Host[] | null = null;
  readonly #previous: PreviousPriorities | null;

  /** The hash is that of the request as it goes out, after the route's edits. `policy`: the route's. */
  constructor(cluster: Cluster, policy: HashPolicy, info: StreamInfo, retry: RetryPolicy | null) {
    this.#hash = cluster.choosesByHash ? hashRequest(cluster.hashPolicy ?? policy, info) : null;
    const frequency = retry?.priorityUpdateFrequency ?? 0;
    // A choice by hash has its priority from the hash.
    this.#previous = frequency > 0 && !cluster.choosesByHash ? new PreviousPriorities(frequency) : null;
  }

  choose(cluster: Cluster, retry: RetryPolicy | null, isRetry: boolean): Host | null {
    let host = this.#draw(cluster, isRetry, 0);
    const tried = this.#tried;
    if (tried !== null && retry !== null) {
      for (let attempt = 1; attempt <= retry.hostSelectionAttempts && host !== null && tried.includes(host); attempt++) {
        host = this.#draw(cluster, isRetry, attempt);
      }
    }
    if (host !== null) this.#previous?.add(host);
    return host;
  }

  /** Retries prefer others. */
  avoid(host: Host): void {
    this.#tried ??= [];
    this.#tried.push(host);
  }

  addCookies(responseHeaders: HeaderList): void {
    for (const cookie of this.#hash?.cookies ?? []) responseHeaders.push("set-cookie", cookie);
  }

  #draw(cluster: Cluster, isRetry: boolean, attempt: number): Host | null {
    const { priorities } = cluster;
    const load = isRetry && this.#previous !== null ? this.#previous.load(priorities.availability) : null;
    return load === null ? cluster.choose(this.#hash, attempt) : priorities.chooseFrom(priorities.sharesOf(load), null, attempt);
  }
}
