/** istio.metadata_exchange on the server's side of connections without HTTP; see telemetry/peer-exchange.ts. The client's is its cluster's. */
import { MetadataExchangeSchema } from "../../../api/gen/envoy/tcp/metadataexchange/config/metadata_exchange_pb.js";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { type ConnectionReader, defineNetworkFilter, type NetworkReadFilter, type ReadStatus } from "../../listener/network-filter.ts";
import { GreetingReader, type PeerExchange, peerExchange } from "../../telemetry/peer-exchange.ts";

class MetadataExchangeFilter implements NetworkReadFilter {
  readonly name: string;
  readonly #exchange: PeerExchange;

  constructor(exchange: PeerExchange, name: string) {
    this.name = name;
    this.#exchange = exchange;
  }

  onConnection(connection: DownstreamConnection): ConnectionReader | null {
    if (!this.#exchange.begins(connection.socket.applicationProtocol)) return null;
    connection.greeting = this.#exchange.greeting;
    const reader = new GreetingReader(this.#exchange);
    return {
      onData(chunk: Buffer, endStream: boolean): ReadStatus {
        const read = reader.read(chunk, endStream);
        if (read === "incomplete") return "wait";
        if (read === "refused") {
          connection.destroy();
          return "stop";
        }
        connection.streamInfo.downstreamPeer = read.peer;
        return read.bytes;
      },
    };
  }

  dispose(): void {}
}

export const metadataExchange = defineNetworkFilter({
  name: "envoy.filters.network.metadata_exchange",
  schema: MetadataExchangeSchema,
  create: (config, context, name) => new MetadataExchangeFilter(peerExchange(config, context), name),
});
