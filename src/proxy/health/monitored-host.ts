/** A host as the main thread sees it: where it is, what is known against it, and what its ejections were. */
import type { LbEndpoint, LocalityLbEndpoints } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { cellAt, type HostCells } from "./host-cells.ts";
import { edsFlags } from "./host-flags.ts";

/** Milliseconds of performance.now(); null until it happened. */
type Moment = number | null;

export interface OutlierRecord {
  ejections: number;
  /** How often in a row, less the intervals in which all was well since. */
  backOff: number;
  jitterMs: number;
  lastEjection: Moment;
  lastUnejection: Moment;
  /** Percent of the last interval; -1: not enough requests to tell. */
  successRate: number;
  localOriginSuccessRate: number;
}

export class MonitoredHost {
  readonly key: string;
  readonly cells: HostCells;
  endpoint: LbEndpoint;
  locality: LocalityLbEndpoints;
  readonly outlier: OutlierRecord = {
    ejections: 0,
    backOff: 0,
    jitterMs: 0,
    lastEjection: null,
    lastUnejection: null,
    successRate: -1,
    localOriginSuccessRate: -1,
  };

  constructor(key: string, cells: HostCells, endpoint: LbEndpoint, locality: LocalityLbEndpoints) {
    this.key = key;
    this.cells = cells;
    this.endpoint = endpoint;
    this.locality = locality;
  }

  /** Bits of host-flags.ts, of discovery as well. */
  get flags(): number {
    return Atomics.load(this.cells.values, this.cells.at + cellAt.flags) | edsFlags(this.endpoint.healthStatus);
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  set(flag: number): void {
    Atomics.or(this.cells.values, this.cells.at + cellAt.flags, flag);
  }

  clear(flag: number): void {
    Atomics.and(this.cells.values, this.cells.at + cellAt.flags, ~flag);
  }

  /** A count of failures in a row begins anew. */
  reset(count: "consecutive5xx" | "consecutiveGatewayFailure" | "consecutiveLocalOriginFailure"): void {
    Atomics.store(this.cells.values, this.cells.at + cellAt[count], 0);
  }
}
