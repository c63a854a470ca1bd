/** What health checks find out, as JSON lines in the files that the check names. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { writeFullJson } from "../../api/envoy/write-json.ts";
import {
  DegradedHealthyHostSchema,
  HealthCheckAddHealthySchema,
  HealthCheckEjectUnhealthySchema,
  type HealthCheckEvent,
  HealthCheckEventSchema,
  HealthCheckerType,
  HealthCheckFailureSchema,
  HealthCheckFailureType,
  HealthCheckSuccessfulSchema,
  NoLongerDegradedHostSchema,
} from "../../api/gen/envoy/data/core/v3/health_check_event_pb.js";
import type { AccessLogSink } from "../accesslog/sinks.ts";
import type { HealthCheckConfig } from "./health-check-config.ts";
import type { FailureType, HealthCheckEvents } from "./health-check-session.ts";
import type { MonitoredHost } from "./monitored-host.ts";

const checkerTypes: Readonly<Record<HealthCheckConfig["check"]["kind"], HealthCheckerType>> = {
  http: HealthCheckerType.HTTP,
  tcp: HealthCheckerType.TCP,
  grpc: HealthCheckerType.GRPC,
};

const failureTypes: Readonly<Record<FailureType, HealthCheckFailureType>> = {
  active: HealthCheckFailureType.ACTIVE,
  passive: HealthCheckFailureType.PASSIVE,
  network: HealthCheckFailureType.NETWORK,
  networkTimeout: HealthCheckFailureType.NETWORK_TIMEOUT,
};

export class HealthCheckEventLog implements HealthCheckEvents {
  readonly #sinks: readonly AccessLogSink[];
  readonly #clusterName: string;
  readonly #checkerType: HealthCheckerType;

  constructor(sinks: readonly AccessLogSink[], clusterName: string, kind: HealthCheckConfig["check"]["kind"]) {
    this.#sinks = sinks;
    this.#clusterName = clusterName;
    this.#checkerType = checkerTypes[kind];
  }

  ejected(host: MonitoredHost, type: FailureType): void {
    this.#write(host, {
      case: "ejectUnhealthyEvent",
      value: create(HealthCheckEjectUnhealthySchema, { failureType: failureTypes[type] }),
    });
  }

  added(host: MonitoredHost, isFirst: boolean): void {
    this.#write(host, { case: "addHealthyEvent", value: create(HealthCheckAddHealthySchema, { firstCheck: isFirst }) });
  }

  failed(host: MonitoredHost, type: FailureType, isFirst: boolean): void {
    this.#write(host, {
      case: "healthCheckFailureEvent",
      value: create(HealthCheckFailureSchema, { failureType: failureTypes[type], firstCheck: isFirst }),
    });
  }

  passed(host: MonitoredHost): void {
    this.#write(host, { case: "successfulHealthCheckEvent", value: create(HealthCheckSuccessfulSchema) });
  }

  degraded(host: MonitoredHost, isDegraded: boolean): void {
    this.#write(
      host,
      isDegraded
        ? { case: "degradedHealthyHost", value: create(DegradedHealthyHostSchema) }
        : { case: "noLongerDegradedHost", value: create(NoLongerDegradedHostSchema) },
    );
  }

  #write(host: MonitoredHost, event: HealthCheckEvent["event"]): void {
    const { endpoint, locality } = host;
    const address = endpoint.hostIdentifier.case === "endpoint" ? endpoint.hostIdentifier.value.address : undefined;
    const message = create(HealthCheckEventSchema, {
      healthCheckerType: this.#checkerType,
      clusterName: this.#clusterName,
      timestamp: timestampFromDate(new Date()),
      event,
      ...(address && { host: address }),
      ...(endpoint.metadata && { metadata: endpoint.metadata }),
      locality: locality.locality ?? {},
    });
    const line = `${JSON.stringify(writeFullJson(HealthCheckEventSchema, message))}\n`;
    for (const sink of this.#sinks) sink.write(line);
  }
}
