/** A proxy that only listens: it subscribes over delta xDS, acknowledges everything, and remembers what came. */
import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, credentials, type StatusObject } from "@grpc/grpc-js";
import { ClusterSchema } from "../../src/api/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from "../../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../../src/api/type-urls.ts";

export interface Received {
  readonly type: string;
  readonly names: string[];
  readonly removed: string[];
}

export class AdsClient implements Disposable {
  readonly received: Received[] = [];
  status: StatusObject | undefined;
  readonly #client: Client;
  readonly #stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

  /** `subscriptions`: names by type URL; an empty list is everything. EDS names follow CDS by themselves. */
  constructor(address: string, nodeId: string, metadata: JsonObject, subscriptions: Record<string, string[]>) {
    this.#client = new Client(address, credentials.createInsecure());
    this.#stream = this.#client.makeBidiStreamRequest(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
      (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
      (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
    );
    this.#stream.on("error", () => {});
    this.#stream.on("status", (status: StatusObject) => {
      this.status = status;
    });
    this.#stream.on("data", (response: DeltaDiscoveryResponse) => this.#take(response));
    for (const [typeUrl, resourceNamesSubscribe] of Object.entries(subscriptions)) {
      this.#stream.write(create(DeltaDiscoveryRequestSchema, { node: { id: nodeId, metadata }, typeUrl, resourceNamesSubscribe }));
    }
  }

  /** What came since the last call. */
  take(): Received[] {
    return this.received.splice(0);
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
    this.#client.close();
  }

  #take(response: DeltaDiscoveryResponse): void {
    const short = Object.entries(typeUrls).find(([, url]) => url === response.typeUrl)?.[0] ?? response.typeUrl;
    this.received.push({
      type: short,
      names: response.resources.map(({ name }) => name).sort(),
      removed: [...response.removedResources].sort(),
    });
    this.#stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl: response.typeUrl, responseNonce: response.nonce }));
    if (response.typeUrl !== typeUrls.cds) return;
    const names = response.resources
      .filter(({ resource }) => fromBinary(ClusterSchema, resource!.value).edsClusterConfig)
      .map(({ name }) => name);
    if (names.length > 0) this.#stream.write(create(DeltaDiscoveryRequestSchema, { typeUrl: typeUrls.eds, resourceNamesSubscribe: names }));
  }
}
