/** Why a handshake failed, as Envoy's logs show it: BoringSSL's number and name of the reason. OpenSSL has the names alone. */

/** Of BoringSSL's ssl.h (SSL_R_*), the ones that happen; alerts of the peer are 1000 and their own number. */
const reasons: Readonly<Record<string, number>> = {
  BAD_PACKET_LENGTH: 103,
  CERTIFICATE_VERIFY_FAILED: 125,
  CONNECTION_REJECTED: 133,
  DECRYPTION_FAILED_OR_BAD_RECORD_MAC: 139,
  HTTP_REQUEST: 156,
  HTTPS_PROXY_REQUEST: 155,
  NO_SHARED_CIPHER: 184,
  PEER_DID_NOT_RETURN_A_CERTIFICATE: 192,
  UNEXPECTED_MESSAGE: 223,
  UNSUPPORTED_PROTOCOL: 240,
  WRONG_VERSION_NUMBER: 247,
  SSLV3_ALERT_HANDSHAKE_FAILURE: 1040,
  SSLV3_ALERT_BAD_CERTIFICATE: 1042,
  SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 1043,
  SSLV3_ALERT_CERTIFICATE_REVOKED: 1044,
  SSLV3_ALERT_CERTIFICATE_EXPIRED: 1045,
  SSLV3_ALERT_CERTIFICATE_UNKNOWN: 1046,
  TLSV1_ALERT_UNKNOWN_CA: 1048,
  TLSV1_ALERT_PROTOCOL_VERSION: 1070,
};
const sslLibrary = 0x10000000;

export function tlsFailure(reason: keyof typeof reasons): string {
  return `TLS_error:|${sslLibrary + reasons[reason]!}:SSL_routines:OPENSSL_internal:${reason}:TLS_error_end`;
}

/** Of an error that OpenSSL raised. */
export function tlsFailureOf(error: Error): string {
  const { code, reason } = error as { code?: string; reason?: string };
  const name = code?.replace(/^ERR_SSL_/, "");
  if (name !== undefined && name in reasons) return tlsFailure(name);
  return `TLS_error:|${code ?? "ERR"}:${(reason ?? error.message).replaceAll(" ", "_")}:TLS_error_end`;
}
