/** The control plane's gRPC port: ADS, plaintext, for loopback and tests. */
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { type AdsHandler, adsService } from "../ads/server.ts";

export interface GrpcServerOptions {
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
}

export class GrpcServer implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(handler: AdsHandler, { host, port }: GrpcServerOptions): Promise<GrpcServer> {
    const server = new Server({
      "grpc.max_receive_message_length": 4 * 1024 * 1024,
      "grpc.max_send_message_length": -1,
      "grpc.max_concurrent_streams": 100_000,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
    });
    const { definition, implementation } = adsService(handler);
    server.addService(definition, implementation);
    const bound = await new Promise<number>((resolve, reject) => {
      const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, actual) => (error ? reject(error) : resolve(actual)));
    });
    return new GrpcServer(server, bound);
  }

  /** Streams are told by the discovery server; what is left after that is cut. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}
