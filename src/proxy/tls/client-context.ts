/** TLS towards endpoints (UpstreamTlsContext). */
import type { Socket } from "node:net";
import * as tls from "node:tls";
import type { UpstreamTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { AlpnOffer } from "../upstream/alpn-offer.ts";
import { type CommonTls, compileCommonTls, currentCertificates, currentValidation } from "./common-context.ts";
import { checkPeer, type SecretStore, type ValidationSecret } from "./secret.ts";
import { secureOptions } from "./server-context.ts";

export class ClientTls {
  readonly sni: string;
  readonly #common: CommonTls;
  readonly #secrets: SecretStore;
  #context: tls.SecureContext | null = null;
  #validation: ValidationSecret | null = null;
  #madeFor = 0;

  constructor(message: UpstreamTlsContext, secrets: SecretStore) {
    this.sni = message.sni;
    // Envoy stays at 1.2 towards upstreams unless told.
    this.#common = compileCommonTls(message.commonTlsContext, "TLSv1.2");
    this.#secrets = secrets;
  }

  get isReady(): boolean {
    return currentCertificates(this.#common, this.#secrets) !== null && currentValidation(this.#common, this.#secrets) !== undefined;
  }

  /** Begins a handshake on a connected or connecting socket; null while secrets are missing. `serverName` may be "". */
  connect(
    socket: Socket,
    serverName: string,
    alpn: readonly string[],
    speaks: "http1" | "http2" = "http1",
    offer: AlpnOffer | null = null,
  ): tls.TLSSocket | null {
    if (this.#context === null || this.#madeFor !== this.#secrets.version) {
      const certificates = currentCertificates(this.#common, this.#secrets);
      const validation = currentValidation(this.#common, this.#secrets);
      if (certificates === null || validation === undefined) return null;
      this.#context = tls.createSecureContext(secureOptions(certificates.slice(0, 1), validation, this.#common));
      this.#validation = validation;
      this.#madeFor = this.#secrets.version;
    }
    const offered = offer?.protocols ?? (this.#common.alpnProtocols.length > 0 ? this.#common.alpnProtocols : alpn);
    const protocols = speaks === "http2" ? offered : offered.filter((protocol) => protocol !== "h2");
    return tls.connect({
      socket,
      secureContext: this.#context,
      // Names are checked below with the configured matchers.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(serverName === "" ? {} : { servername: serverName }),
      ...(protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {}),
    });
  }

  /** After the handshake: null when the peer is who it should be, else why not, as the access log shows it. */
  verify(socket: tls.TLSSocket, autoSan: string): string | null {
    const validation = this.#validation;
    if (validation === null || validation.trustedCa === null) return null;
    if (!socket.authorized && !validation.acceptsUntrusted) {
      const error = String(socket.authorizationError);
      if (!(validation.allowsExpired && error === "CERT_HAS_EXPIRED")) return verifyFailure(error);
    }
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return verifyFailure("no certificate");
    if (autoSan !== "" && !certificate.checkHost(autoSan, { subject: "never" })) return verifyFailure("SAN matcher");
    const problem = checkPeer(validation, certificate);
    return problem === null ? null : verifyFailure(problem.replace(/^verify cert failed: /, ""));
  }
}

function verifyFailure(reason: string): string {
  return `TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_${reason.replaceAll(" ", "_")}:TLS_error_end`;
}
