/** A gRPC port of the control plane: plaintext for loopback and tests, or TLS with the certificate authority's own certificate. */
import { Server, type ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from "@grpc/grpc-js";

export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export interface GrpcServerOptions {
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  readonly credentials: ServerCredentials;
  readonly services: readonly GrpcService[];
}

export class GrpcServer implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start({ host, port, credentials, services }: GrpcServerOptions): Promise<GrpcServer> {
    const server = new Server({
      "grpc.max_receive_message_length": 4 * 1024 * 1024,
      "grpc.max_send_message_length": -1,
      "grpc.max_concurrent_streams": 100_000,
      // Statistics of every call and connection for a debugging service that is not served.
      "grpc.enable_channelz": 0,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
    });
    for (const { definition, implementation } of services) server.addService(definition, implementation);
    const bound = await new Promise<number>((resolve, reject) => {
      const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      server.bindAsync(address, credentials, (error, actual) => (error ? reject(error) : resolve(actual)));
    });
    return new GrpcServer(server, bound);
  }

  /** Streams are told by the discovery server; what is left after that is cut. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }
}
