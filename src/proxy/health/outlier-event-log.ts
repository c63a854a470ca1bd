/** Ejections and their ends as JSON lines in the file of `cluster_manager.outlier_detection.event_log_path`. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { writeFullJson } from "../../api/envoy/write-json.ts";
import {
  Action,
  type OutlierDetectionEvent,
  OutlierDetectionEventSchema,
  OutlierEjectConsecutiveSchema,
  OutlierEjectFailurePercentageSchema,
  OutlierEjectionType,
  OutlierEjectSuccessRateSchema,
} from "../../api/gen/envoy/data/cluster/v3/outlier_detection_event_pb.js";
import type { AccessLogSink } from "../accesslog/sinks.ts";
import type { MonitoredHost } from "./monitored-host.ts";
import type { OutlierKind } from "./outlier-config.ts";
import type { OutlierEvents, SuccessRates } from "./outlier-detector.ts";

const types: Readonly<Record<OutlierKind, OutlierEjectionType>> = {
  consecutive5xx: OutlierEjectionType.CONSECUTIVE_5XX,
  consecutiveGatewayFailure: OutlierEjectionType.CONSECUTIVE_GATEWAY_FAILURE,
  consecutiveLocalOriginFailure: OutlierEjectionType.CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
  successRate: OutlierEjectionType.SUCCESS_RATE,
  localOriginSuccessRate: OutlierEjectionType.SUCCESS_RATE_LOCAL_ORIGIN,
  failurePercentage: OutlierEjectionType.FAILURE_PERCENTAGE,
  localOriginFailurePercentage: OutlierEjectionType.FAILURE_PERCENTAGE_LOCAL_ORIGIN,
};

export class OutlierEventLog implements OutlierEvents {
  readonly #sink: AccessLogSink;
  readonly #clusterName: string;

  constructor(sink: AccessLogSink, clusterName: string) {
    this.#sink = sink;
    this.#clusterName = clusterName;
  }

  ejected(host: MonitoredHost, kind: OutlierKind, isEnforced: boolean, rates: SuccessRates): void {
    this.#write(host, host.outlier.lastUnejection, {
      type: types[kind],
      action: Action.EJECT,
      enforced: isEnforced,
      event: detail(host, kind, rates),
    });
  }

  unejected(host: MonitoredHost): void {
    this.#write(host, host.outlier.lastEjection, { action: Action.UNEJECT });
  }

  #write(
    host: MonitoredHost,
    since: number | null,
    parts: Partial<Pick<OutlierDetectionEvent, "type" | "action" | "enforced" | "event">>,
  ): void {
    const message = create(OutlierDetectionEventSchema, {
      timestamp: timestampFromDate(new Date()),
      clusterName: this.#clusterName,
      upstreamUrl: host.key,
      numEjections: host.outlier.ejections,
      ...(since !== null && { secsSinceLastAction: BigInt(Math.floor((performance.now() - since) / 1000)) }),
      ...parts,
    });
    this.#sink.write(`${JSON.stringify(writeFullJson(OutlierDetectionEventSchema, message))}\n`);
  }
}

function detail(host: MonitoredHost, kind: OutlierKind, rates: SuccessRates): OutlierDetectionEvent["event"] {
  const { successRate, localOriginSuccessRate } = host.outlier;
  switch (kind) {
    case "successRate":
    case "localOriginSuccessRate":
      return {
        case: "ejectSuccessRateEvent",
        value: create(OutlierEjectSuccessRateSchema, {
          hostSuccessRate: Math.trunc(kind === "successRate" ? successRate : localOriginSuccessRate),
          clusterAverageSuccessRate: Math.trunc(rates.average),
          clusterSuccessRateEjectionThreshold: Math.max(0, Math.trunc(rates.ejectionThreshold)),
        }),
      };
    case "failurePercentage":
    case "localOriginFailurePercentage":
      return {
        case: "ejectFailurePercentageEvent",
        value: create(OutlierEjectFailurePercentageSchema, {
          hostSuccessRate: Math.trunc(kind === "failurePercentage" ? successRate : localOriginSuccessRate),
        }),
      };
    default:
      return { case: "ejectConsecutiveEvent", value: create(OutlierEjectConsecutiveSchema) };
  }
}
