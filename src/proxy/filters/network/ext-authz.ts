/**
 * envoy.filters.network.ext_authz: somebody else decides about each connection, when its first byte has come; by then the terminal filter
 * has it, as with network RBAC. What comes is held until the answer is there.
 */
import { toBinary } from "@bufbuild/protobuf";
import { type ExtAuthz, ExtAuthzSchema } from "../../../api/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { CheckRequestSchema } from "../../../api/gen/envoy/service/auth/v3/external_auth_pb.js";
import { durationMs } from "../../duration.ts";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import {
  type ConnectionReader,
  defineNetworkFilter,
  type NetworkFilterContext,
  type NetworkReadFilter,
  type ReadStatus,
} from "../../listener/network-filter.ts";
import { type CompiledMetadataMatcher, compileMetadataMatcher } from "../../router/metadata-matcher.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import { responseFlags } from "../../stream-info.ts";
import type { AsyncCall } from "../../upstream/async-client.ts";
import { GrpcService } from "../../upstream/grpc-service.ts";
import type { Verdict } from "../http/ext-authz/authorizer.ts";
import { connectionCheckOf } from "../http/ext-authz/check-request.ts";
import { checkPath, verdictOf } from "../http/ext-authz/grpc-authorizer.ts";

const statNames = ["cx_closed", "denied", "disabled", "error", "failure_mode_allowed", "ok", "total"] as const;
const metadataNamespace = "envoy.filters.network.ext_authz";
const defaultTimeoutMs = 200;

class NetworkExtAuthzFilter implements NetworkReadFilter {
  readonly name: string;
  readonly config: ExtAuthz;
  readonly service: GrpcService;
  readonly stats: StatsStore;
  readonly at: Readonly<Record<(typeof statNames)[number] | "active", StatIndex>>;
  readonly #enabledBy: CompiledMetadataMatcher | null;

  constructor(name: string, config: ExtAuthz, { clusters, stats }: NetworkFilterContext) {
    this.name = name;
    this.config = config;
    this.service = new GrpcService(config.grpcService, clusters, durationMs(config.grpcService?.timeout, defaultTimeoutMs));
    this.stats = stats;
    const prefix = `ext_authz.${config.statPrefix}.`;
    const at: Record<string, StatIndex> = { active: stats.gauge(`${prefix}active`) };
    for (const stat of statNames) at[stat] = stats.counter(prefix + stat);
    this.at = at as NetworkExtAuthzFilter["at"];
    this.#enabledBy = config.filterEnabledMetadata === undefined ? null : compileMetadataMatcher(config.filterEnabledMetadata);
  }

  isEnabled({ streamInfo }: DownstreamConnection): boolean {
    const by = this.#enabledBy;
    return by === null || by.test(streamInfo.dynamicMetadata?.get(by.namespace));
  }

  count(name: keyof NetworkExtAuthzFilter["at"], amount: 1 | -1 = 1): void {
    this.stats.add(this.at[name], amount);
  }

  onConnection(connection: DownstreamConnection): ConnectionReader {
    return new ConnectionInquiry(this, connection);
  }

  dispose(): void {}
}

class ConnectionInquiry implements ConnectionReader {
  readonly #filter: NetworkExtAuthzFilter;
  readonly #connection: DownstreamConnection;
  #call: AsyncCall | null = null;
  #askedAt = 0;

  constructor(filter: NetworkExtAuthzFilter, connection: DownstreamConnection) {
    this.#filter = filter;
    this.#connection = connection;
  }

  onData(): ReadStatus {
    const filter = this.#filter;
    const connection = this.#connection;
    if (!filter.isEnabled(connection)) {
      filter.count("disabled");
      return "done";
    }
    filter.count("total");
    filter.count("active");
    this.#askedAt = performance.now();
    const { includePeerCertificate, includeTlsSession } = filter.config;
    const message = toBinary(CheckRequestSchema, connectionCheckOf(connection, includePeerCertificate, includeTlsSession));
    this.#call = filter.service.call(checkPath, message, connection.streamInfo, (outcome) => {
      this.#call = null;
      filter.count("active", -1);
      if (!connection.isClosed) this.#conclude(verdictOf(outcome));
    });
    return "hold";
  }

  onClose(): void {
    if (this.#call === null) return;
    this.#call.cancel();
    this.#call = null;
    this.#filter.count("active", -1);
  }

  #conclude(verdict: Verdict): void {
    const filter = this.#filter;
    const connection = this.#connection;
    if (verdict.kind !== "failed") {
      for (const [key, value] of Object.entries(verdict.metadata ?? {})) {
        connection.streamInfo.setDynamicMetadata(metadataNamespace, key, value);
      }
    }
    if (verdict.kind === "allowed") {
      connection.streamInfo.setDynamicMetadata(metadataNamespace, "ext_authz_duration", Math.floor(performance.now() - this.#askedAt));
    }
    filter.count(verdict.kind === "allowed" ? "ok" : verdict.kind === "denied" ? "denied" : "error");
    const isLetPass = verdict.kind === "failed" && filter.config.failureModeAllow;
    if (isLetPass) filter.count("failure_mode_allowed");
    if (verdict.kind === "allowed" || isLetPass) {
      connection.continueReading();
      return;
    }
    filter.count("cx_closed");
    connection.streamInfo.flags |= responseFlags.UnauthorizedExternalService;
    connection.streamInfo.responseCodeDetails = verdict.kind === "denied" ? "ext_authz_denied" : "ext_authz_error";
    connection.info.localCloseReason = "ext_authz_close";
    connection.shutdown(true);
  }
}

export const extAuthz = defineNetworkFilter({
  name: "envoy.filters.network.ext_authz",
  schema: ExtAuthzSchema,
  create: (config, context, name) => new NetworkExtAuthzFilter(name, config, context),
});
