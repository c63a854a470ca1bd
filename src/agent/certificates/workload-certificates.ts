/**
 * The workload's certificate: got, kept, renewed. It is renewed when about half of its life is over, each agent a little earlier or later
 * than the others; what fails is tried again, ever more seldom, for as long as it takes, and meanwhile the present one is served.
 * Source: Istio security/pkg/nodeagent/cache/secretcache.go.
 */
import { X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { log } from "../../lib/log.ts";
import { writeWhole } from "../../lib/write-whole.ts";
import { signRequest } from "./ca-client.ts";
import { type KeyKind, makeCertificateRequest } from "./certificate-request.ts";
import type { Access } from "./control-plane-access.ts";
import { filesIn, type KeyPair, keyPairOf, pairFiles, readValidPair } from "./key-pair.ts";
import { PresentSecrets, type WorkloadSecrets } from "./workload-secrets.ts";

const scope = log.scope("cache");

export interface WorkloadCertificatesOptions {
  /** SPIFFE URI. */
  readonly identity: string;
  readonly keyKind: KeyKind;
  readonly ttlSeconds: number;
  /** Share of the life that is left at renewal, and how much agents differ: 0.5 and 0.01. */
  readonly graceRatio: number;
  readonly graceJitter: number;
  /** Directory where certificate, key and root are kept; absent: in memory alone. Istio OUTPUT_CERTS. */
  readonly outputDir: string | undefined;
  /** Whose authority it is. Another's is trusted beside what the control plane says. */
  readonly authority: "controlPlane" | "another";
  /** Which of the authority's signers is wanted; "" leaves it to the authority. */
  readonly certSigner: string;
  readonly access: (present: () => WorkloadSecrets | undefined) => Promise<Access>;
}

const firstRetryMs = 500;
const lastRetryMs = 60_000;
/** setTimeout takes no more than 24 days. */
const longestSleepMs = 24 * 24 * 3600_000;

export class WorkloadCertificates extends PresentSecrets {
  readonly #options: WorkloadCertificatesOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  private constructor(options: WorkloadCertificatesOptions) {
    super(options.authority);
    this.#options = options;
    this.#loop = this.#run().catch((error: unknown) => {
      if (!this.#stop.signal.aborted) scope.error("certificates are no longer renewed", { error });
    });
  }

  /** Begins; the first certificate comes when it comes. */
  static start(options: WorkloadCertificatesOptions): WorkloadCertificates {
    return new WorkloadCertificates(options);
  }

  /** The control plane says so before it signs by a new one. */
  override trust(roots: readonly string[]): boolean {
    if (!super.trust(roots)) return false;
    void this.#keep(this.current!);
    scope.info("roots have changed", { count: roots.length });
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    let sleepMs = await this.#takeKept();
    for (;;) {
      while (sleepMs > 0) {
        const nap = Math.min(sleepMs, longestSleepMs);
        await delay(nap, undefined, { signal });
        sleepMs -= nap;
      }
      try {
        sleepMs = await this.#renew();
        failures = 0;
      } catch (error) {
        if (signal.aborted) throw error;
        const bound = Math.min(firstRetryMs * 2 ** failures++, lastRetryMs);
        sleepMs = bound * (0.5 + Math.random() * 0.5);
        scope.warn("no certificate yet", {
          reason: error instanceof Error ? error.message : error,
          retryInMs: Math.round(sleepMs),
          presentUntil: this.current?.pair.notAfter.toISOString() ?? "none",
        });
      }
    }
  }

  /** A certificate that an earlier run left serves until its own renewal. Returns milliseconds until then. */
  async #takeKept(): Promise<number> {
    const { outputDir } = this.#options;
    if (!outputDir) return 0;
    const pair = await readValidPair(filesIn(outputDir));
    if (!pair || !isFor(pair, this.#options.identity)) return 0;
    try {
      const roots = await readFile(join(outputDir, pairFiles.root), "utf8");
      new X509Certificate(roots);
      this.set({ pair, roots });
    } catch {
      return 0;
    }
    return Math.max(0, this.#renewalAt(pair, pair.notBefore.getTime()) - Date.now());
  }

  async #renew(): Promise<number> {
    const { identity, keyKind, ttlSeconds, certSigner, access } = this.#options;
    const { csr, privateKey } = await makeCertificateRequest(identity, keyKind);
    const { chain, roots } = await signRequest({ csr, ttlSeconds, certSigner }, () => access(() => this.current), this.#stop.signal);
    const pair = keyPairOf(chain, privateKey);
    const received = Date.now();
    await this.#keep({ pair, roots });
    this.set({ pair, roots });
    scope.info("certificate received", { until: pair.notAfter.toISOString() });
    return Math.max(1000, this.#renewalAt(pair, received) - received);
  }

  #renewalAt({ notAfter }: KeyPair, from: number): number {
    const { graceRatio, graceJitter } = this.#options;
    const ratio = Math.min(1, Math.max(0, graceRatio + (Math.random() * 2 - 1) * graceJitter));
    return notAfter.getTime() - (notAfter.getTime() - from) * ratio;
  }

  async #keep({ pair, roots }: WorkloadSecrets): Promise<void> {
    const { outputDir } = this.#options;
    if (!outputDir) return;
    try {
      await mkdir(outputDir, { recursive: true, mode: 0o700 });
      await writeWhole(join(outputDir, pairFiles.privateKey), pair.privateKey, 0o600);
      await writeWhole(join(outputDir, pairFiles.chain), pair.chain, 0o600);
      await writeWhole(join(outputDir, pairFiles.root), roots, 0o600);
    } catch (error) {
      // A full disk must not cost the certificate that is already here.
      scope.error("the certificate can't be kept on disk", { directory: outputDir, error });
    }
  }
}

function isFor({ chain }: KeyPair, identity: string): boolean {
  return new X509Certificate(chain).subjectAltName === `URI:${identity}`;
}
