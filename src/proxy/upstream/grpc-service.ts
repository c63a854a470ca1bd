/** envoy.config.core.v3.GrpcService: whom a filter calls, how long it waits, and what it says about itself. */
import { ConfigError } from "../../api/config-error.ts";
import type { GrpcService as GrpcServiceMessage } from "../../api/gen/envoy/config/core/v3/grpc_service_pb.js";
import { compileHeaderValue, type HeaderValueFormat } from "../router/header-mutation.ts";
import type { HeaderList, StreamInfo } from "../stream-info.ts";
import type { AsyncCall } from "./async-client.ts";
import type { ClusterLookup } from "./cluster-set.ts";
import { GrpcClient, type GrpcOutcome } from "./grpc-client.ts";

export class GrpcService {
  readonly #client: GrpcClient;
  readonly #cluster: string;
  readonly #authority: string;
  readonly #timeoutMs: number;
  readonly #metadata: readonly (readonly [name: string, value: HeaderValueFormat])[];

  /** `timeoutMs`: as the filter understands its configuration; the service's own timeout doesn't count for all of them. */
  constructor(message: GrpcServiceMessage | undefined, clusters: ClusterLookup, timeoutMs: number) {
    const target = message?.targetSpecifier;
    if (target?.case !== "envoyGrpc") throw new ConfigError("GrpcService: only envoy_grpc is supported by this proxy");
    this.#client = new GrpcClient(clusters);
    this.#cluster = target.value.clusterName;
    this.#authority = target.value.authority || target.value.clusterName;
    this.#timeoutMs = timeoutMs;
    this.#metadata = (message?.initialMetadata ?? []).map(({ key, value }) => [key.toLowerCase(), compileHeaderValue(value)] as const);
  }

  /** As GrpcClient.call; `info` is of the request that the call is for. */
  call(path: string, message: Uint8Array, info: StreamInfo, done: (outcome: GrpcOutcome) => void): AsyncCall {
    const metadata: HeaderList = [];
    for (const [name, format] of this.#metadata) metadata.push(name, typeof format === "string" ? format : format(info));
    return this.#client.call(this.#cluster, { path, message, authority: this.#authority, metadata, timeoutMs: this.#timeoutMs }, done);
  }
}
