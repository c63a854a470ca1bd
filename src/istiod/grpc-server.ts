/**
 * A gRPC port of the control plane: plaintext for loopback and tests, or TLS with the certificate authority's own certificate.
 *
 * libuv takes one connection of a listener each time that the event loop comes around. When hundreds of agents come at once, the last ones
 * would wait until the first have been given all their configuration; so several listeners share the port, among whom the kernel divides.
 */
import { type AddressInfo, createServer, type Server as Listener, type Socket } from "node:net";
import { Server, type ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { log } from "../lib/log.ts";
import { listenOn, type PortSharing } from "../platform/port-sharing.ts";

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

const scope = log.scope("grpc");

const listeners = 8;

export class GrpcServer implements AsyncDisposable {
  readonly port: number;
  readonly #parts: DisposableStack;

  private constructor(port: number, parts: DisposableStack) {
    this.port = port;
    this.#parts = parts;
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
    using parts = new DisposableStack();
    const sockets = new Set<Socket>();
    parts.defer(() => {
      server.forceShutdown();
      // It leaves them to whoever is at the other end, who may take his time until a keepalive is missed. First what has been said goes out.
      setImmediate(() => {
        for (const socket of sockets) socket.destroy();
      });
    });
    const connections = server.createConnectionInjector(credentials);
    const take = (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      connections.injectConnection(socket);
    };
    const open = async (at: number, sharing: PortSharing): Promise<number> => {
      const listener: Listener = createServer({ noDelay: true }, take);
      await listenOn(listener, { host, port: at }, sharing);
      // Of one connection that could not be taken.
      listener.on("error", (error) => scope.warn("a connection is lost", { port: at, reason: error.message }));
      parts.defer(() => void listener.close());
      return (listener.address() as AddressInfo).port;
    };
    const bound = await open(port, "first");
    for (let more = 1; more < listeners; more++) await open(bound, "beside");
    return new GrpcServer(bound, parts.move());
  }

  /** Streams are told by the discovery server; what is left after that is cut. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#parts.dispose();
  }
}
