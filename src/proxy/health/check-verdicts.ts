/**
 * What several health checks of a cluster think of one host, and what that makes of the host: whatever one of them has against it counts.
 * Envoy's `MultiHealthChecker`.
 */
import { hostFlags } from "./host-flags.ts";

/** Where a health check notes what it found. */
export interface CheckedFlags {
  has(flag: number): boolean;
  set(flag: number): void;
  clear(flag: number): void;
}

/** Those that checks set and clear. */
const ofChecks =
  hostFlags.failedActiveCheck |
  hostFlags.degradedActiveCheck |
  hostFlags.pendingActiveCheck |
  hostFlags.excludedByImmediateFail |
  hostFlags.activeCheckTimeout;

export class CheckVerdicts {
  readonly #host: CheckedFlags;
  readonly #verdicts: CheckVerdict[] = [];
  readonly #onChange: (flag: "healthy" | "degraded", amount: 1 | -1) => void;

  /** `onChange`: one more or less of the cluster's hosts is healthy, or degraded. */
  constructor(host: CheckedFlags, onChange: (flag: "healthy" | "degraded", amount: 1 | -1) => void) {
    this.#host = host;
    this.#onChange = onChange;
  }

  /** Of one more check, which so far thinks what is known of the host. */
  add(): CheckedFlags {
    const verdict = new CheckVerdict(flagsOf(this.#host), () => this.#combine());
    this.#verdicts.push(verdict);
    return verdict;
  }

  /** The host is gone: it counts no more. */
  close(): void {
    if (!this.#host.has(hostFlags.failedActiveCheck)) this.#onChange("healthy", -1);
    if (this.#host.has(hostFlags.degradedActiveCheck)) this.#onChange("degraded", -1);
  }

  #combine(): void {
    const host = this.#host;
    const before = flagsOf(host);
    const after = this.#verdicts.reduce((flags, verdict) => flags | verdict.flags, 0);
    host.set(after & ~before);
    host.clear(before & ~after);
    const changed = before ^ after;
    if (changed & hostFlags.failedActiveCheck) this.#onChange("healthy", after & hostFlags.failedActiveCheck ? -1 : 1);
    if (changed & hostFlags.degradedActiveCheck) this.#onChange("degraded", after & hostFlags.degradedActiveCheck ? 1 : -1);
  }
}

class CheckVerdict implements CheckedFlags {
  flags: number;
  readonly #onChange: () => void;

  constructor(flags: number, onChange: () => void) {
    this.flags = flags;
    this.#onChange = onChange;
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  set(flag: number): void {
    this.#become(this.flags | flag);
  }

  clear(flag: number): void {
    this.#become(this.flags & ~flag);
  }

  #become(flags: number): void {
    if (flags === this.flags) return;
    this.flags = flags;
    this.#onChange();
  }
}

function flagsOf(host: CheckedFlags): number {
  let flags = 0;
  for (let flag = 1; flag <= ofChecks; flag <<= 1) if ((ofChecks & flag) !== 0 && host.has(flag)) flags |= flag;
  return flags;
}
