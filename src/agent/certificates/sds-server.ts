/**
 * SDS on a Unix socket for the proxy beside us: `default` (the workload's certificate), `ROOTCA`, and files by `file-cert:CERT~KEY` and
 * `file-root:CA`. The socket's directory is for this user alone: who can connect gets the private key.
 * Source: Istio security/pkg/nodeagent/sds/sdsservice.go, security/pkg/nodeagent/cache/secretcache.go.
 */
import { mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { type EncodedResource, encodeResource } from "../../ads/resource.ts";
import { type AdsConnection, type AdsHandler, type AdsSession, secretService } from "../../ads/server.ts";
import type { Watch } from "../../ads/subscription.ts";
import { type Secret, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import { log } from "../../lib/log.ts";
import { FileSecrets } from "./file-secrets.ts";
import type { WorkloadCertificates } from "./workload-certificates.ts";

const scope = log.scope("sds");

export interface SdsServerOptions {
  readonly path: string;
  /** Absent: the workload has no certificate, and waits for one. */
  readonly certificates: WorkloadCertificates | undefined;
}

export class SdsServer implements AdsHandler, AsyncDisposable {
  readonly #options: SdsServerOptions;
  readonly #connections = new Set<AdsConnection>();
  readonly #files = new FileSecrets(() => this.#push());
  readonly #server = new Server();
  readonly #watch: Disposable | undefined;
  #version = 0;

  private constructor(options: SdsServerOptions) {
    this.#options = options;
    this.#watch = options.certificates?.onChange(() => this.#push());
  }

  static async start(options: SdsServerOptions): Promise<SdsServer> {
    const made = new SdsServer(options);
    await mkdir(dirname(options.path), { recursive: true, mode: 0o700 });
    await rm(options.path, { force: true });
    const { definition, implementation } = secretService(made);
    made.#server.addService(definition, implementation);
    await new Promise<void>((resolve, reject) => {
      made.#server.bindAsync(`unix:${options.path}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
    });
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
    this.#watch?.[Symbol.dispose]();
    this.#files[Symbol.dispose]();
    this.#server.forceShutdown();
    await rm(this.#options.path, { force: true });
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
    const secrets = this.#options.certificates?.current;
    switch (name) {
      case "default":
        return secrets && certificateSecret(name, secrets.pair.chain, secrets.pair.privateKey);
      case "ROOTCA":
        return secrets && rootSecret(name, secrets.roots);
      default:
        return this.#files.get(name);
    }
  }
}

export function certificateSecret(name: string, chain: string, privateKey: string): Secret {
  return create(SecretSchema, {
    name,
    type: { case: "tlsCertificate", value: { certificateChain: inline(chain), privateKey: inline(privateKey) } },
  });
}

export function rootSecret(name: string, roots: string): Secret {
  return create(SecretSchema, { name, type: { case: "validationContext", value: { trustedCa: inline(roots) } } });
}

function inline(text: string) {
  return { specifier: { case: "inlineBytes" as const, value: new Uint8Array(Buffer.from(text)) } };
}
