/** TLS towards endpoints (UpstreamTlsContext). */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import * as tls from "node:tls";
import type { UpstreamTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { chainOf } from "../native-stream.ts";
import type { TlsInfo } from "../stream-info.ts";
import type { AlpnOffer } from "../upstream/alpn-offer.ts";
import { ClientSessions } from "./client-sessions.ts";
import { type CommonTls, compileCommonTls, currentCertificates, currentValidation, secureOptions } from "./common-context.ts";
import { checkPeer, isExpired, sameCertificate } from "./peer-check.ts";
import { digestOf, type SecretStore, type ValidationSecret } from "./secret.ts";
import { clientTlsInfo } from "./tls-info.ts";

export interface ClientHandshakeOptions {
  /** `ip:port`, of whom the sessions are. */
  readonly peer: string;
  /** May be "". */
  readonly serverName: string;
  /** What is offered where nothing is configured. */
  readonly alpn?: readonly string[];
  /** Otherwise h2 is never offered. */
  readonly speaksHttp2?: boolean;
  /** Instead of what is configured. */
  readonly offer?: AlpnOffer | null;
}

interface Handshake {
  readonly foundGood: (peerCertificate: Buffer | null) => void;
  /** Of the session that the client came with. */
  readonly rememberedPeer: Buffer | null;
}

export class ClientTls {
  readonly sni: string;
  readonly #common: CommonTls;
  readonly #secrets: SecretStore;
  readonly #sessions: ClientSessions;
  readonly #handshakes = new WeakMap<tls.TLSSocket, Handshake>();
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

  /** Certificates or authorities that stand in the configuration itself, or in files that it names. */
  get hasOwnFiles(): boolean {
    const { certificates, validation } = this.#common;
    return certificates.some((source) => "inline" in source) || (validation !== null && (validation.trustedCa ?? validation.crl) !== null);
  }

  get isReady(): boolean {
    return currentCertificates(this.#common, this.#secrets) !== null && currentValidation(this.#common, this.#secrets) !== undefined;
  }

  /** Begins a handshake on a connected or connecting socket; null while secrets are missing. */
  connect(
    socket: Socket,
    { peer, serverName, alpn = [], speaksHttp2 = false, offer = null }: ClientHandshakeOptions,
  ): tls.TLSSocket | null {
    const context = this.#currentContext();
    if (context === null) return null;
    const offered = offer?.protocols ?? (this.#common.alpnProtocols.length > 0 ? this.#common.alpnProtocols : alpn);
    const protocols = speaksHttp2 ? offered : offered.filter((protocol) => protocol !== "h2");
    const of = `${peer} ${serverName}`;
    const kept = this.#sessions.take(of);
    const secured = tls.connect({
      socket,
      secureContext: context,
      // Names are checked below with the configured matchers.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(serverName === "" ? {} : { servername: serverName }),
      ...(protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {}),
      ...(kept && { session: kept.session }),
    });
    const foundGood = this.#sessions.isKept ? this.#sessions.collect(secured, of) : ignore;
    this.#handshakes.set(secured, { foundGood, rememberedPeer: kept?.peerCertificate ?? null });
    return secured;
  }

  /** After the handshake: null when the peer is who it should be, else why not, as the access log shows it. */
  verify(socket: tls.TLSSocket, autoSan: string): string | null {
    const peer = this.#peerOf(socket);
    const problem = this.#problem(socket, peer, autoSan);
    // Only the session of a peer that was found good may stand for it later.
    if (problem === null) this.#handshakes.get(socket)?.foundGood(peer);
    return problem;
  }

  /** Of a connection whose handshake is done. */
  info(socket: tls.TLSSocket): TlsInfo {
    return clientTlsInfo(socket, this.#peerOf(socket));
  }

  /** DER. Node does not show the certificate that a session brings with it. */
  #peerOf(socket: tls.TLSSocket): Buffer | null {
    const shown = socket.getPeerX509Certificate();
    if (shown !== undefined) return sameCertificate(shown.raw);
    return socket.isSessionReused() ? (this.#handshakes.get(socket)?.rememberedPeer ?? null) : null;
  }

  #problem(socket: tls.TLSSocket, peer: Buffer | null, autoSan: string): string | null {
    const validation = this.#validation;
    if (validation === null || validation.trustedCa === null) return null;
    if (!socket.authorized && !validation.acceptsUntrusted) {
      const error = String(socket.authorizationError);
      if (!(validation.allowsExpired && error === "CERT_HAS_EXPIRED")) return verifyFailure(error);
    }
    if (peer === null) return verifyFailure("no certificate");
    if (autoSan !== "" && !new X509Certificate(peer).checkHost(autoSan, { subject: "never" })) return verifyFailure("SAN matcher");
    if (socket.isSessionReused() && !validation.allowsExpired && isExpired(peer, Date.now())) return verifyFailure("CERT_HAS_EXPIRED");
    const problem = checkPeer(validation, peer, () => (socket.isSessionReused() ? null : chainOf(socket.getPeerCertificate(true))));
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

function ignore(): void {}

function verifyFailure(reason: string): string {
  return `TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_${reason.replaceAll(" ", "_")}:TLS_error_end`;
}
