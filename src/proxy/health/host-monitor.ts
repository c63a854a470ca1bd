/**
 * What a worker tells of a host: how its requests and connections went. Envoy's `DetectorHostMonitorImpl`.
 *
 * Counters are shared by all workers. The worker whose request reaches a threshold says so to the main thread, which alone takes
 * hosts out and lets them in again (outlier-detector.ts).
 */
import { hasHeader } from "../http/header-list.ts";
import type { HeaderList } from "../stream-info.ts";
import { httpStatusOfGrpc } from "./grpc-as-http.ts";
import { cellAt, countOutcome, type HostCells } from "./host-cells.ts";
import { hostFlags } from "./host-flags.ts";
import type { ConsecutiveKind, OutlierConfig } from "./outlier-config.ts";

export type HostEvent = ConsecutiveKind | "immediateHealthCheckFail";

/** What of a cluster concerns its hosts' health. */
export interface HealthConfig {
  readonly outlier: OutlierConfig | null;
  /** Hosts are checked, so that one may ask to be left alone by `x-envoy-immediate-health-check-fail`. */
  readonly hasChecks: boolean;
}

const alreadyFailed = hostFlags.excludedByImmediateFail | hostFlags.failedActiveCheck;

export class HostMonitor {
  readonly cells: HostCells;
  readonly #outlier: OutlierConfig | null;
  readonly #hasChecks: boolean;
  readonly #report: (event: HostEvent) => void;

  constructor(cells: HostCells, { outlier, hasChecks }: HealthConfig, report: (event: HostEvent) => void) {
    this.cells = cells;
    this.#outlier = outlier;
    this.#hasChecks = hasChecks;
    this.#report = report;
  }

  get flags(): number {
    return Atomics.load(this.cells.values, this.cells.at + cellAt.flags);
  }

  /** The head of an answer has come. Hot. */
  onResponse(status: number, headers: HeaderList, isGrpc: boolean): void {
    if (this.#hasChecks && hasHeader(headers, "x-envoy-immediate-health-check-fail")) this.#failImmediately();
    if (this.#outlier === null) return;
    const { isError } = this.#outlier;
    if (isError !== null) this.#countStatus(isError(status, headers) ? Math.max(status, 500) : 200);
    else this.#countStatus(isGrpc ? httpStatusOfGrpc(status, headers) : status);
  }

  /** A request has a connection. Hot. */
  onReady(): void {
    if (this.#outlier?.splitsOrigins) this.#countLocal(true);
  }

  /** A connection is there, and nothing more will be known of it. */
  onConnected(): void {
    if (this.#outlier === null) return;
    if (this.#outlier.splitsOrigins) this.#countLocal(true);
    else this.#countStatus(200);
  }

  /** No connection, or it was lost before the answer was complete. */
  onConnectFailed(): void {
    this.#failedLocally(503);
  }

  /** `status`: what the client gets for it. */
  onTimeout(status = 504): void {
    this.#failedLocally(status);
  }

  #failedLocally(status: number): void {
    if (this.#outlier === null) return;
    if (this.#outlier.splitsOrigins) this.#countLocal(false);
    else this.#countStatus(status);
  }

  #countStatus(status: number): void {
    const isSuccess = status < 500 || status > 599;
    countOutcome(this.cells, "external", isSuccess);
    if (isSuccess) {
      this.#reset("consecutive5xx");
      this.#reset("consecutiveGatewayFailure");
      return;
    }
    if (status >= 502 && status <= 504) this.#another("consecutiveGatewayFailure");
    else this.#reset("consecutiveGatewayFailure");
    this.#another("consecutive5xx");
  }

  #countLocal(isSuccess: boolean): void {
    countOutcome(this.cells, "localOrigin", isSuccess);
    if (isSuccess) this.#reset("consecutiveLocalOriginFailure");
    else this.#another("consecutiveLocalOriginFailure");
  }

  #another(kind: ConsecutiveKind): void {
    const { values, at } = this.cells;
    const count = Atomics.add(values, at + cellAt[kind], 1) + 1;
    if (count === this.#outlier!.consecutive[kind]) this.#report(kind);
  }

  #reset(kind: ConsecutiveKind): void {
    const { values, at } = this.cells;
    // A write takes the cell away from the other workers, and it is 0 nearly always.
    if (Atomics.load(values, at + cellAt[kind]) !== 0) Atomics.store(values, at + cellAt[kind], 0);
  }

  #failImmediately(): void {
    const { values, at } = this.cells;
    const before = Atomics.or(values, at + cellAt.flags, hostFlags.excludedByImmediateFail);
    // In panic it may be asked, and say so, for each request.
    if ((before & alreadyFailed) !== alreadyFailed) this.#report("immediateHealthCheckFail");
  }
}
