/**
 * Revocation lists as Envoy's `only_verify_leaf_cert_crl` wants them looked at: for the peer's own certificate alone. OpenSSL under Node
 * would want a list of every authority in the chain.
 *
 *   no list of the certificate's issuer, or one that is over    refused: it can't be known
 *   the certificate's number in the list                        refused
 *
 * The list is believed as it comes, for it comes from where the roots do.
 */
import { ConfigError } from "../../api/config-error.ts";
import { certificateNumbers, parseRevocationLists, type RevocationLists } from "../../lib/revocation-list.ts";

/** Throws ConfigError. */
export function compileLeafRevocations(pem: Buffer): RevocationLists {
  try {
    return parseRevocationLists(pem.toString("latin1"));
  } catch (cause) {
    throw new ConfigError("Failed to load CRL from <inline>", { cause });
  }
}

/** null when the certificate, in DER, is not revoked, else what is wrong, in OpenSSL's words. */
export function leafRevocationProblem(revocations: RevocationLists, certificate: Buffer, nowMs: number): string | null {
  const numbers = certificateNumbers(certificate);
  const list = numbers && revocations.get(numbers.issuer);
  if (!list) return "unable to get certificate CRL";
  if (list.serials.has(numbers.serial)) return "certificate revoked";
  return list.nextUpdateMs < nowMs ? "CRL has expired" : null;
}
