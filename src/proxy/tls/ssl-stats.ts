/** `ssl.*` of a listener or a cluster. */
import { StatLayout } from "../stats/stat-layout.ts";
import type { StatIndex, StatsStore } from "../stats/store.ts";
import type { TlsInfo } from "../stream-info.ts";

const names = [
  "connection_error",
  "fail_verify_cert_hash",
  "fail_verify_error",
  "fail_verify_no_cert",
  "fail_verify_san",
  "handshake",
  "no_certificate",
  "ocsp_staple_failed",
  "ocsp_staple_omitted",
  "ocsp_staple_requests",
  "ocsp_staple_responses",
  "session_reused",
] as const;

export const sslLayout = new StatLayout<(typeof names)[number]>("ssl", { counter: names });

/** What becomes of a client's question for an OCSP response. */
export type StapleAction = "staple" | "omit" | "notAsked" | "fail";

const stapleNames = { staple: "ocsp_staple_responses", omit: "ocsp_staple_omitted", fail: "ocsp_staple_failed" } as const;

export class SslStats {
  readonly #store: StatsStore;
  readonly #prefix: string;
  readonly #at: ReturnType<typeof sslLayout.indices>;
  /** By version, and by cipher. */
  readonly #kinds = new Map<string, StatIndex>();

  /** `prefix`: of the listener or cluster, with its dot. */
  constructor(store: StatsStore, prefix: string) {
    this.#store = store;
    this.#prefix = `${prefix}ssl.`;
    this.#at = sslLayout.indices(store.group(this.#prefix, sslLayout));
  }

  secured({ version, opensslCipher, peerCertificate }: TlsInfo, isReused: boolean): void {
    const { values } = this.#store;
    const at = this.#at;
    values[at.handshake]! += 1;
    if (isReused) values[at.session_reused]! += 1;
    if (peerCertificate === null) values[at.no_certificate]! += 1;
    values[this.#kind("versions", version)]! += 1;
    values[this.#kind("ciphers", opensslCipher)]! += 1;
  }

  /** `reason` as logs show it. */
  failed(reason: string): void {
    const at = this.#at;
    if (reason.includes("SAN matcher")) this.#store.add(at.fail_verify_san, 1);
    else if (reason.includes("cert hash")) this.#store.add(at.fail_verify_cert_hash, 1);
    else if (reason.includes("CERTIFICATE_VERIFY_FAILED")) this.#store.add(at.fail_verify_error, 1);
    else if (reason.includes("DID_NOT_RETURN")) this.#store.add(at.fail_verify_no_cert, 1);
    this.#store.add(at.connection_error, 1);
  }

  stapled(action: StapleAction): void {
    if (action === "notAsked") return;
    this.#store.add(this.#at.ocsp_staple_requests, 1);
    this.#store.add(this.#at[stapleNames[action]], 1);
  }

  #kind(group: "versions" | "ciphers", name: string): StatIndex {
    let index = this.#kinds.get(name);
    if (index === undefined) {
      index = this.#store.counter(`${this.#prefix}${group}.${name}`);
      this.#kinds.set(name, index);
    }
    return index;
  }
}
