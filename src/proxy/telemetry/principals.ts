/** Who is at the two ends of a TLS connection, by the URI of their certificates. */
import { certificateFields } from "../accesslog/certificate-fields.ts";
import type { TlsInfo } from "../stream-info.ts";

export interface Principals {
  /** "" where there is no certificate, or no URI in it. */
  readonly peer: string;
  readonly local: string;
}

const nobody: Principals = { peer: "", local: "" };
const maxPairs = 1024;

export class PrincipalPairs {
  /** A connection keeps its TlsInfo. */
  #byConnection = new WeakMap<TlsInfo, Principals>();
  readonly #pairs = new Map<string, Principals>();

  /** The same object for the same two. Asked for the first time while the connection is open. */
  of(tls: TlsInfo | null): Principals {
    if (tls === null) return nobody;
    const known = this.#byConnection.get(tls);
    if (known !== undefined) return known;
    const pair = { peer: uriOf(tls.peerCertificate), local: uriOf(tls.localCertificate) };
    const key = `${pair.peer}\0${pair.local}`;
    let shared = this.#pairs.get(key);
    if (shared === undefined) {
      if (this.#pairs.size >= maxPairs) this.#pairs.clear();
      shared = pair;
      this.#pairs.set(key, shared);
    }
    this.#byConnection.set(tls, shared);
    return shared;
  }
}

function uriOf(certificate: Buffer | null): string {
  return (certificate === null ? undefined : certificateFields(certificate)?.uriSans[0]) ?? "";
}

/** `spiffe://cluster.local/ns/default/sa/reviews`: default. */
export function namespaceOf(principal: string): string {
  return /\/ns\/([^/]*)/.exec(principal)?.[1] ?? "";
}
