/**
 * The workload's certificate: got, kept, renewed. It is renewed when about half of its life is over, each agent a little earlier or later
 * than the others; what fails is tried again, ever more seldom, for as long as it takes, and meanwhile the present one is served.
 * Source: Istio security/pkg/nodeagent/cache/secretcache.go.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseSpiffeId } from "../../api/spiffe.ts";
import { log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { WholeFile } from "../../lib/write-whole.ts";
import { KeptFiles } from "../kept-files.ts";
import type { Troubles } from "../troubles.ts";
import { signRequest } from "./ca-client.ts";
import { type KeyKind, makeCertificateRequest } from "./certificate-request.ts";
import type { Access } from "./control-plane-access.ts";
import { filesIn, type KeyPair, keyPairOf, leadsTo, pairFiles, readValidPair } from "./key-pair.ts";
import { ClockSteps, clockTrouble } from "./wall-clock.ts";
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
  readonly troubles: Pick<Troubles, "report" | "clear">;
  /** The wall clock, which may be set while this runs. Default Date.now. */
  readonly now?: () => number;
}

const firstRetryMs = 500;
const lastRetryMs = 60_000;
/** How soon it is seen that the clock has been set. */
const tickMs = 1000;

export class WorkloadCertificates extends PresentSecrets {
  readonly #options: WorkloadCertificatesOptions;
  readonly #stop = new AbortController();
  readonly #now: () => number;
  readonly #kept: KeptFiles | undefined;
  #toKeep: WorkloadSecrets | undefined;
  readonly #loop: Promise<void>;

  private constructor(options: WorkloadCertificatesOptions) {
    super(options.authority);
    this.#options = options;
    this.#now = options.now ?? Date.now;
    const { outputDir, troubles } = options;
    // Key and certificate are replaced together: half a pair would be no use to the next start.
    if (outputDir) this.#kept = new KeptFiles({ what: "the workload's certificate", troubles, files: () => this.#files(outputDir) });
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
    this.#toKeep = this.current;
    void this.#kept?.save();
    scope.info("roots have changed", { count: roots.length });
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#kept?.[Symbol.asyncDispose]();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const steps = new ClockSteps(this.#now);
    let failures = 0;
    let sleepMs = await this.#takeKept();
    for (;;) {
      await this.#sleep(sleepMs, steps);
      if (signal.aborted) return;
      try {
        sleepMs = await this.#renew();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        const bound = Math.min(firstRetryMs * 2 ** failures++, lastRetryMs);
        sleepMs = bound * (0.5 + Math.random() * 0.5);
        scope.warn("no certificate yet", {
          reason: error instanceof Error ? error.message : error,
          retryInMs: Math.round(sleepMs),
          presentUntil: this.current?.pair.notAfter.toISOString() ?? "none",
        });
      }
      this.#checkClock();
    }
  }

  /** Time goes by the monotonic clock; when the other one has been set, the authority is asked at once what it makes of it. */
  async #sleep(sleepMs: number, steps: ClockSteps): Promise<void> {
    const { signal } = this.#stop;
    const endsAt = performance.now() + sleepMs;
    for (let left = sleepMs; left > 0 && !signal.aborted; left = endsAt - performance.now()) {
      await pause(Math.min(left, tickMs), signal);
      const stepMs = steps.since();
      if (stepMs === 0) continue;
      scope.warn("the clock of this machine has been set", {
        bySeconds: Math.round(stepMs / 1000),
        now: new Date(this.#now()).toISOString(),
      });
      this.#checkClock();
      return;
    }
  }

  #checkClock(): void {
    const { troubles } = this.#options;
    const reason = this.current && clockTrouble(this.current.pair, this.#now());
    if (reason) troubles.report("the certificate does not hold by this machine's clock", reason);
    else troubles.clear("the certificate does not hold by this machine's clock");
  }

  /**
   * A certificate that an earlier run left serves until its own renewal; but not one of another authority than the root beside it, which
   * somebody brought when the machine came into another mesh. Returns milliseconds until the renewal.
   */
  async #takeKept(): Promise<number> {
    const { outputDir } = this.#options;
    if (!outputDir) return 0;
    const pair = await readValidPair(filesIn(outputDir), (reason) =>
      scope.warn("the certificate on disk is not used", { directory: outputDir, reason }),
    );
    if (!pair || !isFor(pair, this.#options.identity)) return 0;
    try {
      const roots = await readFile(join(outputDir, pairFiles.root), "utf8");
      if (!leadsTo(pair, roots)) {
        scope.warn("the certificate on disk is not used", {
          directory: outputDir,
          reason: "it is of another authority than the root beside it",
        });
        return 0;
      }
      this.set({ pair, roots });
    } catch {
      return 0;
    }
    const lifeMs = pair.notAfter.getTime() - pair.notBefore.getTime();
    const ageMs = this.#now() - pair.notBefore.getTime();
    return Math.max(0, this.#shareMs(lifeMs) - Math.max(0, ageMs));
  }

  async #renew(): Promise<number> {
    const { identity, keyKind, ttlSeconds, certSigner, access } = this.#options;
    const { csr, privateKey } = await makeCertificateRequest(identity, keyKind);
    const { chain, roots } = await signRequest({ csr, ttlSeconds, certSigner }, () => access(() => this.current), this.#stop.signal);
    const pair = keyPairOf(chain, privateKey);
    this.#toKeep = { pair, roots };
    await this.#kept?.save();
    this.set({ pair, roots });
    scope.info("certificate received", { until: pair.notAfter.toISOString() });
    const now = this.#now();
    // By a clock that is wrong the certificate may not have begun, or be over: then all that is known is how long it was made for.
    const holds = clockTrouble(pair, now) === undefined;
    const madeForMs = Math.min(ttlSeconds * 1000, pair.notAfter.getTime() - pair.notBefore.getTime());
    return Math.max(1000, this.#shareMs(holds ? pair.notAfter.getTime() - now : madeForMs));
  }

  /** How much of a life goes by before renewal. */
  #shareMs(lifeMs: number): number {
    const { graceRatio, graceJitter } = this.#options;
    const ratio = Math.min(1, Math.max(0, graceRatio + (Math.random() * 2 - 1) * graceJitter));
    return lifeMs * (1 - ratio);
  }

  #files(directory: string): WholeFile[] {
    const { pair, roots } = this.#toKeep!;
    return [
      { path: join(directory, pairFiles.privateKey), content: pair.privateKey, mode: 0o600 },
      { path: join(directory, pairFiles.chain), content: pair.chain, mode: 0o600 },
      { path: join(directory, pairFiles.root), content: roots, mode: 0o600 },
    ];
  }
}

/** The trust domain is the authority's to say, whatever this machine's settings call it. */
function isFor({ chain }: KeyPair, identity: string): boolean {
  const own = parseSpiffeId(new X509Certificate(chain).subjectAltName?.replace(/^URI:/, "") ?? "");
  const wanted = parseSpiffeId(identity);
  return own !== undefined && own.namespace === wanted?.namespace && own.serviceAccount === wanted.serviceAccount;
}
