/**
 * SDS on a Unix socket for the proxy beside us: `default` (the workload's certificate), `ROOTCA`, and files by `file-cert:CERT~KEY` and
 * `file-root:CA`. The socket's directory is for this user alone: who can connect gets the private key.
 * Source: Istio security/pkg/nodeagent/sds/sdsservice.go, security/pkg/nodeagent/cache/secretcache.go.
 */
import { Server } from "@grpc/grpc-js";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { type AdsConnection, type AdsHandler, type AdsSession, secretService } from "../../ads/server.ts";
import type { Watch } from "../../ads/subscription.ts";
import { type Secret, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import { log } from "../../lib/log.ts";
import type { SocketFile } from "../../platform/socket-file.ts";
import { listenOnSocket } from "../grpc-socket.ts";
import { FileSecrets } from "./file-secrets.ts";
import type { Revocations } from "./revocations.ts";
import { certificateSecret, rootSecret } from "./secret-messages.ts";
import type { WorkloadSecretsSource } from "./workload-secrets.ts";

const scope = log.scope("sds");

export interface SdsServerOptions {
  readonly path: string;
  /** Absent: the workload has none, or from elsewhere; who asks for it here waits. */
  readonly secrets: WorkloadSecretsSource | undefined;
  /** Goes with the roots. */
  readonly revocations: Revocations;
  /** Files that are secrets are read again when they have been left alone for so long. */
  readonly fileQuietMs: number;
}

export class SdsServer implements AdsHandler, AsyncDisposable {
  readonly #options: SdsServerOptions;
  readonly #connections = new Set<AdsConnection>();
  readonly #files: FileSecrets;
  readonly #server = new Server();
  readonly #watches = new DisposableStack();
  #file: SocketFile | undefined;
  #version = 0;

  private constructor(options: SdsServerOptions) {
    this.#options = options;
    this.#files = new FileSecrets(() => this.#push(), options.fileQuietMs);
    if (options.secrets) this.#watches.use(options.secrets.onChange(() => this.#push()));
    this.#watches.use(options.revocations.onChange(() => this.#push()));
  }

  static async start(options: SdsServerOptions): Promise<SdsServer> {
    const made = new SdsServer(options);
    const { definition, implementation } = secretService(made);
    made.#server.addService(definition, implementation);
    made.#file = await listenOnSocket(made.#server, options.path);
    return made;
  }

  onConnect(_: unknown, connection: AdsConnection): AdsSession {
    this.#connections.add(connection);
    return {
      generate: (watch, names) => this.#generate(watch, names),
      version: () => String(this.#version),
      onNack: (_, message) => scope.warn("the proxy refused a secret", { reason: message }),
      onAck: () => {},
      onStale: () => {},
      onSent: () => {},
      onClosed: () => void this.#connections.delete(connection),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watches.dispose();
    this.#files[Symbol.dispose]();
    this.#server.forceShutdown();
    await this.#file?.[Symbol.asyncDispose]();
  }

  #push(): void {
    this.#version++;
    for (const connection of this.#connections) connection.push({});
  }

  /** Undefined where nothing is there yet: the proxy waits, and is answered when it comes. */
  #generate(watch: Watch, names: ReadonlySet<string> | undefined): EncodedResource[] | undefined {
    if (watch.typeUrl !== typeUrls.sds) return undefined;
    const found = [...(names ?? watch.names)].flatMap((name) => {
      const secret = this.#secret(name);
      return secret ? [encodeResource(name, SecretSchema, secret)] : [];
    });
    return found.length > 0 ? found : undefined;
  }

  #secret(name: string): Secret | undefined {
    const secrets = this.#options.secrets?.current;
    switch (name) {
      case "default":
        return secrets && certificateSecret(name, secrets.pair.chain, secrets.pair.privateKey);
      case "ROOTCA":
        return secrets && rootSecret(name, secrets.roots, this.#options.revocations.current);
      default:
        return this.#files.get(name);
    }
  }
}
