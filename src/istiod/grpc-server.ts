/** A gRPC port of the control plane: plaintext for loopback and tests, or TLS with the certificate authority's own certificate. */
import { type AddressInfo, createServer, type Socket } from "node:net";
import {
  Server,
  type ServerCredentials,
  type ServerInterceptingCall,
  type ServerInterceptor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { listenAnywhere } from "../lib/listen-anywhere.ts";
import { log } from "../lib/log.ts";
import { listenOn } from "../platform/port-sharing.ts";
import type { Newcomers } from "./newcomers.ts";

export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export interface GrpcServerOptions {
  /** Empty: all addresses. */
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  readonly credentials: ServerCredentials;
  readonly services: readonly GrpcService[];
  /** Who has connected and not called yet. */
  readonly newcomers?: Newcomers;
}

const scope = log.scope("grpc");

/** Agents that may connect in one moment; the kernel gives no more than net.core.somaxconn. */
const backlog = 4096;

export class GrpcServer implements AsyncDisposable {
  readonly port: number;
  readonly #parts: DisposableStack;

  private constructor(port: number, parts: DisposableStack) {
    this.port = port;
    this.#parts = parts;
  }

  static async start({ host, port, credentials, services, newcomers }: GrpcServerOptions): Promise<GrpcServer> {
    const hear: ServerInterceptor = (_, call) => {
      newcomers?.onHeard(call.getPeer());
      // As it is, and not wrapped: behind it is the connection, in which peer-certificate.ts looks for the issuers.
      return call as ServerInterceptingCall;
    };
    const server = new Server({
      interceptors: [hear],
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
      const peer = `${socket.remoteAddress}:${socket.remotePort}`;
      sockets.add(socket);
      newcomers?.onTaken(peer);
      socket.once("close", () => {
        sockets.delete(socket);
        newcomers?.onHeard(peer);
      });
      connections.injectConnection(socket);
    };
    // One, and not several on the same port: it takes connections in the order in which they came, so nobody's second is before another's first.
    const listener = createServer({ noDelay: true }, take);
    if (host === "") parts.use(await listenAnywhere(listener, { port, backlog }));
    else await listenOn(listener, { host, port, backlog }, "alone");
    // Of one connection that could not be taken.
    listener.on("error", (error) => scope.warn("a connection is lost", { port, reason: error.message }));
    parts.defer(() => void listener.close());
    return new GrpcServer((listener.address() as AddressInfo).port, parts.move());
  }

  /** Streams are told by the discovery server; what is left after that is cut. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#parts.dispose();
  }
}
