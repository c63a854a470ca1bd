/**
 * Whom the proxy's next xDS stream leads to. It is the control plane, but for a proxy that has just started and can't reach any: that one
 * gets the last good configuration, until a control plane is back. A proxy that has configuration needs nobody to keep it.
 *
 *   fresh ──control plane answers──> configured ──stream ends──> control plane again, and again
 *     └──nobody within 5 s, or no answer to a stream──> last good ──control plane is back──> control plane
 */
import { Client } from "@grpc/grpc-js";
import { typeUrls } from "../../api/type-urls.ts";
import { ownChannel } from "../../lib/grpc-channel.ts";
import { log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { Access } from "../certificates/control-plane-access.ts";
import type { LastGoodConfig } from "./last-good-config.ts";

const scope = log.scope("lastgood");

export interface ControlPlaneChoiceOptions {
  /** How the control plane is called; rejects when this agent can't call it at all. */
  readonly access: () => Promise<Access>;
  readonly lastGood: LastGoodConfig;
  /** How the last good configuration is called. */
  readonly lastGoodAccess: Access;
  /** How long a start waits for the control plane. */
  readonly patienceMs?: number;
}

export interface Chosen {
  readonly access: Access;
  readonly isLastGood: boolean;
}

export type ConfigSource = "none" | "control plane" | "last good";

const [firstRetryMs, maxRetryMs] = [1000, 30_000];

export class ControlPlaneChoice {
  readonly #options: ControlPlaneChoiceOptions;
  #source: ConfigSource = "none";
  /** A stream to the control plane ended before it brought anything. */
  #wasRefused = false;

  constructor(options: ControlPlaneChoiceOptions) {
    this.#options = options;
  }

  /** Where what the proxy runs on came from. */
  get source(): ConfigSource {
    return this.#source;
  }

  async choose(): Promise<Chosen> {
    const { access, lastGood, lastGoodAccess, patienceMs = 5000 } = this.#options;
    if (this.#source !== "none" || lastGood.savedAt === undefined) return { access: await access(), isLastGood: false };
    const reachable = this.#wasRefused ? undefined : await reach(access, patienceMs);
    if (reachable) return { access: reachable, isLastGood: false };
    scope.warn("no control plane answers: the proxy starts with what it had last", { savedAt: lastGood.savedAt.toISOString() });
    return { access: lastGoodAccess, isLastGood: true };
  }

  /** The proxy took this from the stream. */
  onAccepted({ isLastGood }: Chosen, typeUrl: string): void {
    if (typeUrl !== typeUrls.cds && typeUrl !== typeUrls.lds) return;
    if (!isLastGood && this.#source === "last good") scope.info("the control plane is back: the proxy has its configuration");
    this.#source = isLastGood ? "last good" : "control plane";
  }

  onStreamEnded({ isLastGood }: Chosen): void {
    if (!isLastGood && this.#source === "none") this.#wasRefused = true;
  }

  /** Resolves when a control plane can be reached, or the signal fires. Agents of a whole mesh do not all come back at once. */
  async whenBack(signal: AbortSignal): Promise<void> {
    let delayMs = firstRetryMs;
    while (!signal.aborted) {
      await pause(delayMs * (0.5 + Math.random()), signal);
      if (signal.aborted || (await reach(this.#options.access, this.#options.patienceMs ?? 5000))) return;
      delayMs = Math.min(delayMs * 2, maxRetryMs);
    }
  }
}

/** Whether somebody with the right certificate is there; what he says to a stream remains to be seen. */
async function reach(access: () => Promise<Access>, patienceMs: number): Promise<Access | undefined> {
  let client: Client | undefined;
  try {
    const found = await access();
    const tried = new Client(found.target, found.credentials, { ...ownChannel, ...found.options });
    client = tried;
    await new Promise<void>((resolve, reject) =>
      tried.waitForReady(Date.now() + patienceMs, (error) => (error ? reject(error) : resolve())),
    );
    return found;
  } catch (error) {
    scope.debug("no control plane", { reason: error instanceof Error ? error.message : error });
    return undefined;
  } finally {
    client?.close();
  }
}
