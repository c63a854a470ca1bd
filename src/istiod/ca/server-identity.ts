/**
 * The control plane's own certificate: issued by its authority, renewed at half of its life and whenever the authority changes; with it the
 * roots by which callers are judged. New connections see the new ones.
 */
import { generateKeyPairSync } from "node:crypto";
import { isIP } from "node:net";
import type { experimental } from "@grpc/grpc-js";
import { log } from "../../lib/log.ts";
import { joinCertificates } from "../../lib/pem.ts";
import type { AlternativeName } from "../../lib/x509-der.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";
import type { TrustBundle } from "./trust-bundle.ts";

const scope = log.scope("ca");
const lifeSeconds = 24 * 3600;
const retryMs = 10_000;

export interface ServerPair {
  /** PEM, with intermediates. */
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  /** PEM of the roots by which clients are judged. */
  readonly roots: Buffer;
}

type Provider = experimental.CertificateProvider;
type Trust = Pick<TrustBundle, "callersRoots" | "onChange">;

export class ServerIdentity implements Provider, Disposable {
  readonly #authority: CertificateAuthority;
  readonly #subjects: readonly AlternativeName[];
  readonly #trust: Trust;
  readonly #watches = new DisposableStack();
  /** What each listener, of whatever kind, is told. */
  readonly #listeners = new Map<unknown, (pair: ServerPair) => void>();
  #pair: ServerPair;
  #timer: NodeJS.Timeout | undefined;

  private constructor(authority: CertificateAuthority, trust: Trust, subjects: readonly AlternativeName[], pair: ServerPair) {
    this.#authority = authority;
    this.#trust = trust;
    this.#subjects = subjects;
    this.#pair = pair;
    this.#watches.use(authority.onChange(() => void this.#renew()));
    this.#watches.use(trust.onChange(() => this.#set({ ...this.#pair, roots: rootsOf(trust) })));
    this.#schedule((lifeSeconds * 1000) / 2);
  }

  /** `names`: DNS names and addresses by which clients call. */
  static async start(authority: CertificateAuthority, trust: Trust, names: readonly string[]): Promise<ServerIdentity> {
    const subjects = [...new Set(names)].map((value): AlternativeName => ({ type: isIP(value) ? "ip" : "dns", value }));
    return new ServerIdentity(authority, trust, subjects, await makePair(authority, trust, subjects));
  }

  get pair(): ServerPair {
    return this.#pair;
  }

  onPair(listener: (pair: ServerPair) => void): void {
    this.#listeners.set(listener, listener);
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#listen(listener, ({ roots }) => listener({ caCertificate: roots }));
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#listeners.delete(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#listen(listener, ({ certificate, privateKey }) => listener({ certificate, privateKey }));
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#listeners.delete(listener);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#watches.dispose();
    this.#listeners.clear();
  }

  #listen(listener: unknown, tell: (pair: ServerPair) => void): void {
    this.#listeners.set(listener, tell);
    // The caller does not expect to be called within its own call.
    process.nextTick(() => this.#listeners.get(listener)?.(this.#pair));
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#renew(), delayMs);
    this.#timer.unref();
  }

  #set(pair: ServerPair): void {
    this.#pair = pair;
    for (const tell of this.#listeners.values()) tell(pair);
  }

  async #renew(): Promise<void> {
    try {
      this.#set(await makePair(this.#authority, this.#trust, this.#subjects));
      this.#schedule((lifeSeconds * 1000) / 2);
    } catch (error) {
      scope.error("the control plane's certificate can't be renewed", { error: error instanceof Error ? error.message : error });
      this.#schedule(retryMs);
    }
  }
}

function rootsOf({ callersRoots }: Trust): Buffer {
  return Buffer.from(joinCertificates(callersRoots));
}

async function makePair(authority: CertificateAuthority, trust: Trust, subjects: readonly AlternativeName[]): Promise<ServerPair> {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { chain } = await authority.sign(publicKey, subjects, lifeSeconds);
  return {
    certificate: Buffer.from(chain.join("")),
    privateKey: Buffer.from(privateKey.export({ type: "pkcs8", format: "pem" })),
    roots: rootsOf(trust),
  };
}
