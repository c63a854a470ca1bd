/**
 * Asks the application again and again, and tells when the answer has changed for as often as the thresholds say. It begins when the
 * proxy serves: before that nobody could use the application, and its first verdict should be about the application.
 * Source: Istio pkg/istio-agent/health/health_check.go.
 */
import type { ReadinessProbe } from "../../api/kinds/workload-group.ts";
import { log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { Probe } from "./probe.ts";

const scope = log.scope("healthcheck");

/** undefined: well. Else what is wrong. */
export type HealthVerdict = string | undefined;

export interface HealthCheckerOptions {
  readonly settings: ReadinessProbe;
  readonly probe: Probe;
  /** Whether the proxy serves. */
  readonly isProxyReady: () => Promise<boolean>;
  /** Called when the verdict changes, and for the first one. */
  readonly onVerdict: (verdict: HealthVerdict) => void;
}

const proxyPollMs = 100;

export class HealthChecker implements AsyncDisposable {
  readonly #options: HealthCheckerOptions;
  readonly #end = new AbortController();
  readonly #ended: Promise<void>;

  private constructor(options: HealthCheckerOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  static start(options: HealthCheckerOptions): HealthChecker {
    return new HealthChecker(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { settings, isProxyReady, onVerdict } = this.#options;
    const { signal } = this.#end;
    const thresholds = { well: settings.successThreshold || 1, unwell: settings.failureThreshold || 1 };
    const periodMs = (settings.periodSeconds || 10) * 1000;
    await pause(settings.initialDelaySeconds * 1000, signal);
    while (!signal.aborted && !(await isProxyReady())) await pause(proxyPollMs, signal);
    let state: keyof typeof thresholds | undefined;
    let count = 0;
    let last: keyof typeof thresholds | undefined;
    while (!signal.aborted) {
      const verdict = await this.#check();
      if (signal.aborted) return;
      const answer = verdict === undefined ? "well" : "unwell";
      count = answer === last ? count + 1 : 1;
      last = answer;
      if (answer !== state && count >= thresholds[answer]) {
        state = answer;
        scope.info(`application is ${answer}`, verdict === undefined ? {} : { reason: verdict });
        onVerdict(verdict);
      }
      await pause(periodMs, signal);
    }
  }

  async #check(): Promise<HealthVerdict> {
    const { settings, probe, isProxyReady } = this.#options;
    if (!(await isProxyReady())) return "the proxy does not serve";
    return await probe.check(AbortSignal.any([this.#end.signal, AbortSignal.timeout((settings.timeoutSeconds || 1) * 1000)]));
  }
}
