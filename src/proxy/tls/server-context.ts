/**
 * Terminating TLS on a filter chain (DownstreamTlsContext).
 *
 * The handshake is node:tls's: a tls.Server that never listens is handed the accepted sockets. It is made anew when a secret
 * changes, so new connections see the new certificate and old ones keep what they have.
 */
import type * as net from "node:net";
import * as tls from "node:tls";
import { ConfigError } from "../../api/config-error.ts";
import type { DownstreamTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { TlsInfo } from "../stream-info.ts";
import { type CommonTls, compileCommonTls, currentCertificates, currentValidation } from "./common-context.ts";
import { type CertificateSecret, checkPeer, type SecretStore, type ValidationSecret } from "./secret.ts";

export interface HandshakeSink {
  secured(socket: tls.TLSSocket): void;
  /** `reason` is what the log shows. The socket is closed. */
  failed(socket: net.Socket, reason: string): void;
}

export class ServerTls {
  readonly #common: CommonTls;
  readonly #requiresClientCertificate: boolean;
  readonly #requiresSni: boolean;
  readonly #secrets: SecretStore;
  readonly #alpn: readonly string[];
  /** With and without ALPN. */
  readonly #servers = new Map<boolean, tls.Server>();
  #madeFor = 0;
  #waiting = new WeakMap<object, HandshakeSink>();

  /** `unspoken`: protocols that may be offered and are not agreed to. */
  constructor(message: DownstreamTlsContext, secrets: SecretStore, unspoken: ReadonlySet<string>) {
    this.#common = compileCommonTls(message.commonTlsContext, "TLSv1.3");
    this.#requiresClientCertificate = message.requireClientCertificate ?? false;
    this.#requiresSni = message.requireSni ?? false;
    this.#secrets = secrets;
    this.#alpn = this.#common.alpnProtocols.filter((protocol) => !unspoken.has(protocol));
    if (this.#common.certificates.length === 0) throw new ConfigError("No TLS certificates found for server context");
    const type = message.sessionTicketKeysType;
    if (type.case === "sessionTicketKeys" || type.case === "sessionTicketKeysSdsSecretConfig") {
      throw new ConfigError("session ticket keys are not supported by this proxy");
    }
  }

  /** Whether all secrets are there. */
  get isReady(): boolean {
    return currentCertificates(this.#common, this.#secrets) !== null && currentValidation(this.#common, this.#secrets) !== undefined;
  }

  /** Begins a handshake; false when the secrets have not come yet. `offered`: the client's ALPN list, null where nobody looked. */
  accept(socket: net.Socket, sink: HandshakeSink, offered: readonly string[] | null): boolean {
    if (this.#madeFor !== this.#secrets.version) {
      this.#servers.clear();
      this.#madeFor = this.#secrets.version;
    }
    // Envoy goes on without ALPN when there is no common protocol; OpenSSL under Node would end the handshake.
    const alpn = this.#alpn;
    const usesAlpn = offered === null || alpn.some((protocol) => offered.includes(protocol));
    let server = this.#servers.get(usesAlpn);
    if (server === undefined) {
      const made = this.#makeServer(usesAlpn ? alpn : []);
      if (made === null) return false;
      server = made;
      this.#servers.set(usesAlpn, server);
    }
    this.#waiting.set(socket, sink);
    server.emit("connection", socket);
    return true;
  }

  #makeServer(alpn: readonly string[]): tls.Server | null {
    const certificates = currentCertificates(this.#common, this.#secrets);
    const validation = currentValidation(this.#common, this.#secrets);
    if (certificates === null || validation === undefined) return null;
    const contexts = sameNames(certificates).map((group) => ({
      names: group[0]!.dnsNames,
      options: secureOptions(group, validation, this.#common),
    }));
    const options: tls.TlsOptions = {
      ...contexts[0]!.options,
      requestCert: validation !== null,
      // Makes OpenSSL say so to a client that sends none. Where the configuration forgives a chain it is judged below.
      rejectUnauthorized:
        this.#requiresClientCertificate && validation?.trustedCa != null && !validation.acceptsUntrusted && !validation.allowsExpired,
      handshakeTimeout: 2 ** 31 - 1,
    };
    if (alpn.length > 0) options.ALPNCallback = ({ protocols }) => alpn.find((protocol) => protocols.includes(protocol));
    if (contexts.length > 1) {
      const made = contexts.map(({ names, options: own }) => ({ names, context: tls.createSecureContext(own) }));
      options.SNICallback = (name, done) => done(null, selectContext(made, name.toLowerCase()));
    }
    const server = tls.createServer(options);
    server.on("secureConnection", (socket) => this.#secured(socket, validation));
    server.on("tlsClientError", (error, socket) => {
      const sink = this.#sinkOf(socket);
      if (sink !== undefined) sink.failed(socket, tlsFailure(error));
    });
    return server;
  }

  #sinkOf(socket: tls.TLSSocket): HandshakeSink | undefined {
    const parent = (socket as unknown as { _parent?: object })._parent;
    const sink = parent === undefined ? undefined : this.#waiting.get(parent);
    if (parent !== undefined) this.#waiting.delete(parent);
    return sink;
  }

  #secured(socket: tls.TLSSocket, validation: ValidationSecret | null): void {
    const sink = this.#sinkOf(socket);
    if (sink === undefined) {
      socket.destroy();
      return;
    }
    const problem = this.#problem(socket, validation);
    if (problem === null) sink.secured(socket);
    else sink.failed(socket, problem);
  }

  #problem(socket: tls.TLSSocket, validation: ValidationSecret | null): string | null {
    if (this.#requiresSni && !socket.servername) return "SNI is required";
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return this.#requiresClientCertificate ? "PEER_DID_NOT_RETURN_A_CERTIFICATE" : null;
    if (validation === null) return null;
    if (validation.trustedCa !== null && !validation.acceptsUntrusted && !socket.authorized) {
      const error = String(socket.authorizationError);
      if (!(validation.allowsExpired && error === "CERT_HAS_EXPIRED")) return `CERTIFICATE_VERIFY_FAILED: ${error}`;
    }
    return checkPeer(validation, certificate);
  }
}

/** Certificates for the same names are one choice, of RSA or ECDSA, that the client's signature algorithms make. */
function sameNames(certificates: readonly CertificateSecret[]): CertificateSecret[][] {
  return [...Map.groupBy(certificates, ({ dnsNames }) => [...dnsNames].sort().join()).values()];
}

export function secureOptions(
  certificates: readonly CertificateSecret[],
  validation: ValidationSecret | null,
  common: CommonTls,
): tls.SecureContextOptions {
  return {
    ...common.options,
    ...(certificates.length === 0
      ? {}
      : {
          cert: certificates.map(({ chain }) => chain),
          key: certificates.map(({ privateKey, passphrase }) => ({ pem: privateKey, ...(passphrase === null ? {} : { passphrase }) })),
        }),
    // An empty list: trust nobody, rather than the roots that Node brings.
    ca: validation?.trustedCa ?? [],
    ...(validation?.crl ? { crl: validation.crl } : {}),
  };
}

function selectContext(
  contexts: readonly { readonly names: readonly string[]; readonly context: tls.SecureContext }[],
  name: string,
): tls.SecureContext {
  const dot = name.indexOf(".");
  const wildcard = dot > 0 ? `*${name.slice(dot)}` : "";
  const exact = contexts.find(({ names }) => names.includes(name));
  return (exact ?? contexts.find(({ names }) => names.includes(wildcard)) ?? contexts[0]!).context;
}

/** Envoy's shape of a TLS failure, with OpenSSL's reason in it. */
export function tlsFailure(error: Error): string {
  const { code, reason } = error as { code?: string; reason?: string };
  return `TLS_error:|${code ?? "ERR"}:${(reason ?? error.message).replaceAll(" ", "_")}:TLS_error_end`;
}

export function tlsInfo(socket: tls.TLSSocket): TlsInfo {
  const cipher = socket.getCipher();
  return new LazyTlsInfo(socket, socket.getProtocol() ?? "", cipher.standardName ?? cipher.name);
}

/** Certificates are copied out of OpenSSL only when a log or a filter asks. */
class LazyTlsInfo implements TlsInfo {
  readonly version: string;
  readonly cipher: string;
  readonly #socket: tls.TLSSocket;
  #peer: Buffer | null | undefined;
  #local: Buffer | null | undefined;

  constructor(socket: tls.TLSSocket, version: string, cipher: string) {
    this.#socket = socket;
    this.version = version;
    this.cipher = cipher;
    // After the socket is gone it can't be asked any more, so who is on the other side is read now.
    this.#peer = socket.getPeerX509Certificate()?.raw ?? null;
  }

  get sessionId(): string {
    return "";
  }

  get peerCertificate(): Buffer | null {
    return this.#peer ?? null;
  }

  get localCertificate(): Buffer | null {
    if (this.#local === undefined) this.#local = this.#socket.getX509Certificate?.()?.raw ?? null;
    return this.#local;
  }
}
