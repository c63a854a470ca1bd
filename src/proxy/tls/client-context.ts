/** TLS towards endpoints (UpstreamTlsContext). */
import type { Socket } from "node:net";
import * as tls from "node:tls";
import type { UpstreamTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { ClientSessions } from "./client-sessions.ts";
import { type CommonTls, compileCommonTls, currentCertificates, currentValidation, secureOptions } from "./common-context.ts";
import { checkPeer, isExpired, sameCertificate } from "./peer-check.ts";
import { digestOf, type SecretStore, type ValidationSecret } from "./secret.ts";

export interface ClientHandshakeOptions {
  /** `ip:port`, of whom the sessions are. */
  readonly peer: string;
  /** May be "". */
  readonly serverName: string;
  readonly alpn?: readonly string[];
  readonly speaks?: "http1" | "http2";
}

export class ClientTls {
  readonly sni: string;
  readonly #common: CommonTls;
  readonly #secrets: SecretStore;
  readonly #sessions: ClientSessions;
  /** What to call when the peer has been found good. */
  readonly #unverified = new WeakMap<tls.TLSSocket, () => void>();
  #context: tls.SecureContext | null = null;
  #validation: ValidationSecret | null = null;
  #madeOf = "";
  #madeFor = 0;

  constructor(message: UpstreamTlsContext, secrets: SecretStore) {
    this.sni = message.sni;
    // Envoy stays at 1.2 towards upstreams unless told.
    this.#common = compileCommonTls(message.commonTlsContext, "TLSv1.2");
    this.#secrets = secrets;
    this.#sessions = new ClientSessions(message.maxSessionKeys ?? 1);
  }

  get isReady(): boolean {
    return currentCertificates(this.#common, this.#secrets) !== null && currentValidation(this.#common, this.#secrets) !== undefined;
  }

  /** Begins a handshake on a connected or connecting socket; null while secrets are missing. */
  connect(socket: Socket, { peer, serverName, alpn = [], speaks = "http1" }: ClientHandshakeOptions): tls.TLSSocket | null {
    const context = this.#currentContext();
    if (context === null) return null;
    const offered = this.#common.alpnProtocols.length > 0 ? this.#common.alpnProtocols : alpn;
    const protocols = speaks === "http2" ? offered : offered.filter((protocol) => protocol !== "h2");
    const of = `${peer} ${serverName}`;
    const session = this.#sessions.take(of);
    const secured = tls.connect({
      socket,
      secureContext: context,
      // Names are checked below with the configured matchers.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(serverName === "" ? {} : { servername: serverName }),
      ...(protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {}),
      ...(session && { session }),
    });
    if (this.#sessions.isKept) this.#unverified.set(secured, this.#sessions.collect(secured, of));
    return secured;
  }

  /** After the handshake: null when the peer is who it should be, else why not, as the access log shows it. */
  verify(socket: tls.TLSSocket, autoSan: string): string | null {
    const problem = this.#problem(socket, autoSan);
    // Only the session of a peer that was found good may stand for it later.
    if (problem === null) this.#unverified.get(socket)?.();
    return problem;
  }

  #problem(socket: tls.TLSSocket, autoSan: string): string | null {
    const validation = this.#validation;
    if (validation === null || validation.trustedCa === null) return null;
    if (!socket.authorized && !validation.acceptsUntrusted) {
      const error = String(socket.authorizationError);
      if (!(validation.allowsExpired && error === "CERT_HAS_EXPIRED")) return verifyFailure(error);
    }
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return verifyFailure("no certificate");
    if (autoSan !== "" && !certificate.checkHost(autoSan, { subject: "never" })) return verifyFailure("SAN matcher");
    const der = sameCertificate(certificate.raw);
    if (socket.isSessionReused() && !validation.allowsExpired && isExpired(der, Date.now())) return verifyFailure("CERT_HAS_EXPIRED");
    const problem = checkPeer(validation, der);
    return problem === null ? null : verifyFailure(problem.replace(/^verify cert failed: /, ""));
  }

  #currentContext(): tls.SecureContext | null {
    if (this.#madeFor === this.#secrets.version) return this.#context;
    const certificates = currentCertificates(this.#common, this.#secrets);
    const validation = currentValidation(this.#common, this.#secrets);
    if (certificates === null || validation === undefined) return null;
    this.#madeFor = this.#secrets.version;
    const certificate = certificates[0] ?? null;
    const madeOf = digestOf(certificate?.chain ?? null, certificate?.privateKey ?? null, validation?.digest ?? null);
    // Others have changed.
    if (this.#context !== null && this.#madeOf === madeOf) return this.#context;
    this.#context = tls.createSecureContext(secureOptions(certificate, validation, this.#common));
    this.#validation = validation;
    this.#madeOf = madeOf;
    this.#sessions.clear();
    return this.#context;
  }
}

function verifyFailure(reason: string): string {
  return `TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_${reason.replaceAll(" ", "_")}:TLS_error_end`;
}
