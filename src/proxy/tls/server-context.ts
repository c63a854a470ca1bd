/**
 * Terminating TLS on a filter chain (DownstreamTlsContext).
 *
 * What a connection needs is decided before its handshake, from the client's hello: certificate, protocols, OCSP response. OpenSSL's
 * contexts are made at first use (secure-contexts.ts). They are made anew when a secret that they are made of changes, so new connections
 * see the new certificate and old ones keep what they have.
 */
import { constants } from "node:crypto";
import * as tls from "node:tls";
import { ConfigError } from "../../api/config-error.ts";
import {
  type DownstreamTlsContext,
  DownstreamTlsContext_OcspStaplePolicy as StaplePolicy,
} from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { AcceptedSocket } from "../accepted-socket.ts";
import { durationMs } from "../duration.ts";
import { chainOf, type TlsHandle } from "../native-stream.ts";
import { CertificateChoice, type Choosable } from "./certificate-choice.ts";
import type { CertificateSecret } from "./certificate-secret.ts";
import type { ClientHello } from "./client-hello.ts";
import { type CommonTls, compileCommonTls, currentCertificates, currentValidation, secureOptions } from "./common-context.ts";
import { checkPeer, isExpired, sameCertificate } from "./peer-check.ts";
import { digestOf, type SecretStore, type ValidationSecret } from "./secret.ts";
import type { ContextOwner } from "./secure-contexts.ts";
import { type HandshakeTerms, startServerHandshake } from "./server-handshake.ts";
import { compileTicketKeysSource, currentTicketKeys, type TicketKeysSource, ticketKeysOf, useTicketKeys } from "./session-tickets.ts";
import type { StapleAction } from "./ssl-stats.ts";
import { tlsFailure, tlsFailureOf } from "./tls-failure.ts";
import type { TlsSessions } from "./tls-sessions.ts";

export interface HandshakeSink {
  /** `peerCertificate` as DER, null when the client sent none. */
  secured(handle: TlsHandle, peerCertificate: Buffer | null): void;
  /** `reason` is what the log shows. The socket is still open. */
  failed(reason: string): void;
  /** What became of OCSP, for the statistics. */
  stapled(action: StapleAction): void;
}

export interface ServerTlsOptions {
  readonly secrets: SecretStore;
  readonly sessions: TlsSessions;
  /** For which the filter chain is chosen: a session of one chain is nothing to another. */
  readonly serverNames: readonly string[];
}

/** One certificate of the chain, with OpenSSL's context when it has one. */
class ServedCertificate implements ContextOwner, Choosable {
  readonly secret: CertificateSecret;
  context: tls.SecureContext | null = null;

  constructor(secret: CertificateSecret) {
    this.secret = secret;
  }

  get dnsNames(): readonly string[] {
    return this.secret.dnsNames;
  }

  get keyKind() {
    return this.secret.keyKind;
  }
}

/** What is in force as long as no secret changes. */
interface Served {
  readonly secrets: readonly CertificateSecret[];
  readonly validation: ValidationSecret | null;
  readonly ticketKeys: readonly Buffer[] | null;
  readonly day: number;
  readonly certificates: readonly ServedCertificate[];
  readonly choice: CertificateChoice<ServedCertificate>;
  readonly sessionContext: string;
}

/** OpenSSL's SSL_MAX_SID_CTX_LENGTH; of a hash in base64 that is still 192 bits. */
const maxSessionContext = 32;
/** BoringSSL's default, and OpenSSL's. */
const defaultSessionMs = 7_200_000;

export class ServerTls {
  readonly #common: CommonTls;
  readonly #requiresClientCertificate: boolean;
  readonly #requiresSni: boolean;
  readonly #scansAll: boolean;
  readonly #staplePolicy: StaplePolicy;
  readonly #sessionMs: number;
  readonly #ticketKeys: TicketKeysSource;
  readonly #keepsSessions: boolean;
  readonly #options: ServerTlsOptions;
  readonly #protocols: readonly string[];
  readonly #alpn: Buffer | null;
  #served: Served | null = null;
  #madeFor = 0;

  constructor(message: DownstreamTlsContext, options: ServerTlsOptions) {
    this.#common = compileCommonTls(message.commonTlsContext, "TLSv1.3");
    this.#requiresClientCertificate = message.requireClientCertificate ?? false;
    this.#requiresSni = message.requireSni ?? false;
    this.#scansAll = message.fullScanCertsOnSniMismatch ?? false;
    this.#staplePolicy = message.ocspStaplePolicy;
    this.#sessionMs = durationMs(message.sessionTimeout, defaultSessionMs);
    this.#ticketKeys = compileTicketKeysSource(message.sessionTicketKeysType);
    this.#keepsSessions = !message.disableStatefulSessionResumption;
    this.#options = options;
    this.#protocols = this.#common.alpnProtocols;
    this.#alpn = this.#protocols.length === 0 ? null : wireFormat(this.#protocols);
    if (this.#common.certificates.length === 0) throw new ConfigError("No TLS certificates found for server context");
    for (const source of this.#common.certificates) {
      if ("inline" in source && this.#lacksStaple(source.inline))
        throw new ConfigError("Required OCSP response is missing from TLS context");
    }
  }

  /** Whether all secrets are there. */
  get isReady(): boolean {
    return this.#current() !== null;
  }

  /** Begins a handshake; false when the secrets have not come yet. `hello` null: it could not be read, and OpenSSL will say why. */
  accept(socket: AcceptedSocket, sink: HandshakeSink, hello: ClientHello | null): boolean {
    const served = this.#current();
    if (served === null) return false;
    const now = Date.now();
    const wantsStaple = hello?.wantsStaple ?? false;
    const certificate = served.choice.choose(hello, (one) => this.#stapleAction(one, wantsStaple, now) !== "fail");
    const action = this.#stapleAction(certificate, wantsStaple, now);
    sink.stapled(action);
    if (action === "fail") {
      sink.failed(tlsFailure("CONNECTION_REJECTED"));
      return true;
    }
    const { validation } = served;
    const terms: HandshakeTerms = {
      context: this.#options.sessions.contexts.use(certificate, () => this.#makeContext(served, certificate)),
      clientCertificate: validation === null ? "none" : this.#mustVerify(validation) ? "required" : "optional",
      alpn: this.#alpnFor(hello),
      staple: action === "staple" ? certificate.secret.staple!.der : null,
      sessions: this.#sessionsFor(hello),
    };
    startServerHandshake(socket, terms, {
      done: (handle) => {
        const peer = validation === null ? null : peerOf(handle);
        const problem = this.#problem(handle, peer, validation, hello);
        if (problem === null) sink.secured(handle, peer);
        else sink.failed(problem);
      },
      failed: (error) => sink.failed(tlsFailureOf(error)),
    });
    return true;
  }

  /** Makes OpenSSL tell a client that sends no certificate. Where the configuration forgives a chain it is judged afterwards. */
  #mustVerify(validation: ValidationSecret): boolean {
    return this.#requiresClientCertificate && validation.trustedCa !== null && !validation.acceptsUntrusted && !validation.allowsExpired;
  }

  /** Envoy goes on without ALPN when there is no common protocol; OpenSSL would end the handshake. */
  #alpnFor(hello: ClientHello | null): Buffer | null {
    if (this.#alpn === null || hello === null) return this.#alpn;
    return hello.alpn.some((protocol) => this.#protocols.includes(protocol)) ? this.#alpn : null;
  }

  /** A session in the server's memory is for TLS 1.2 alone, and for those who take no ticket. */
  #sessionsFor(hello: ClientHello | null): HandshakeTerms["sessions"] {
    if (hello === null || !this.#keepsSessions || hello.namesVersions) return null;
    if (hello.takesTickets && this.#ticketKeys.kind !== "none") return null;
    return { cache: this.#options.sessions.cache, lifetimeMs: this.#sessionMs };
  }

  #current(): Served | null {
    const { secrets, sessions } = this.#options;
    const day = sessions.keys.dayAt(Date.now());
    if (this.#served !== null && this.#madeFor === secrets.version && this.#served.day === day) return this.#served;
    const certificates = currentCertificates(this.#common, secrets);
    const validation = currentValidation(this.#common, secrets);
    const ticketKeys = currentTicketKeys(this.#ticketKeys, secrets);
    if (certificates === null || validation === undefined || ticketKeys === undefined) return null;
    if (certificates.some((certificate) => this.#lacksStaple(certificate))) return null;
    const before = this.#served;
    this.#madeFor = secrets.version;
    // Others have changed.
    if (before !== null && before.day === day && sameSecrets(before, certificates, validation, ticketKeys)) return before;
    for (const old of before?.certificates ?? []) sessions.contexts.drop(old);
    const served = certificates.map((secret) => new ServedCertificate(secret));
    this.#served = {
      secrets: certificates,
      validation,
      ticketKeys,
      day,
      certificates: served,
      choice: new CertificateChoice(served, this.#common.suites, {
        takesTls13: this.#common.options.maxVersion === "TLSv1.3",
        scansAll: this.#scansAll,
      }),
      sessionContext: this.#sessionContext(certificates, validation, ticketKeys),
    };
    return this.#served;
  }

  /** Who may be let in by a session, and as what: another of these, and the session is worth nothing. */
  #sessionContext(
    certificates: readonly CertificateSecret[],
    validation: ValidationSecret | null,
    ticketKeys: readonly Buffer[] | null,
  ): string {
    return digestOf(
      validation?.digest ?? null,
      String(this.#requiresClientCertificate),
      ...this.#options.serverNames,
      "certificates",
      // With keys of the configuration's own a session is good at all proxies that have them, whose certificates may be others
      // for the same names; with our own it ends with the certificate.
      ...certificates.map((certificate) => (ticketKeys === null ? certificate.chain : certificate.identity)),
    );
  }

  #makeContext(served: Served, { secret }: ServedCertificate): tls.SecureContext {
    const keys = ticketKeysOf(this.#options.sessions.keys, served.ticketKeys, served.sessionContext);
    const context = tls.createSecureContext({
      ...secureOptions(secret, served.validation, this.#common),
      honorCipherOrder: true,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (this.#ticketKeys.kind === "none" ? constants.SSL_OP_NO_TICKET : 0),
      sessionTimeout: Math.floor(this.#sessionMs / 1000),
      sessionIdContext: served.sessionContext.slice(0, maxSessionContext),
    });
    useTicketKeys(context, keys);
    return context;
  }

  #lacksStaple({ staple }: CertificateSecret): boolean {
    return this.#staplePolicy === StaplePolicy.MUST_STAPLE && staple === null;
  }

  #stapleAction({ secret }: ServedCertificate, wantsStaple: boolean, nowEpochMs: number): StapleAction {
    if (!wantsStaple) return "notAsked";
    const { staple } = secret;
    const isValid = staple !== null && staple.nextUpdateEpochMs !== null && staple.nextUpdateEpochMs >= nowEpochMs;
    if (isValid) return "staple";
    if (this.#staplePolicy === StaplePolicy.MUST_STAPLE || (staple !== null && this.#staplePolicy === StaplePolicy.STRICT_STAPLING)) {
      return "fail";
    }
    return secret.mustStaple ? "fail" : "omit";
  }

  #problem(handle: TlsHandle, peer: Buffer | null, validation: ValidationSecret | null, hello: ClientHello | null): string | null {
    if (this.#requiresSni && !hello?.serverName) return "SNI is required";
    if (peer === null) return this.#requiresClientCertificate ? "PEER_DID_NOT_RETURN_A_CERTIFICATE" : null;
    if (validation === null) return null;
    if (validation.trustedCa !== null && !validation.acceptsUntrusted) {
      const error = handle.verifyError();
      if (error !== null && !(validation.allowsExpired && error.code === "CERT_HAS_EXPIRED")) {
        return `CERTIFICATE_VERIFY_FAILED: ${error.code}`;
      }
      // What was verified when the session began may have run out since.
      if (!validation.allowsExpired && handle.isSessionReused() && isExpired(peer, Date.now())) {
        return "CERTIFICATE_VERIFY_FAILED: CERT_HAS_EXPIRED";
      }
    }
    return checkPeer(validation, peer, () => (handle.isSessionReused() ? null : chainOf(handle.getPeerCertificate(true))));
  }
}

function sameSecrets(
  served: Served,
  certificates: readonly CertificateSecret[],
  validation: ValidationSecret | null,
  ticketKeys: readonly Buffer[] | null,
): boolean {
  return (
    served.ticketKeys === ticketKeys &&
    served.validation?.digest === validation?.digest &&
    served.secrets.every((secret, index) => secret === certificates[index])
  );
}

function peerOf(handle: TlsHandle): Buffer | null {
  const der = handle.getPeerX509Certificate()?.raw();
  return der === undefined ? null : sameCertificate(der);
}

function wireFormat(protocols: readonly string[]): Buffer {
  return Buffer.concat(protocols.map((protocol) => Buffer.from(`${String.fromCharCode(protocol.length)}${protocol}`, "latin1")));
}
