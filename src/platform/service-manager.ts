/**
 * systemd as a service sees it that tells by itself how it is (Type=notify): when it is ready, what it is doing, and that it still lives.
 *
 *   start ──live checks: the time to start is extended──> READY=1 ──live checks: WATCHDOG=1──> STOPPING=1
 *
 * A check that fails or does not end sends nothing; then systemd ends the service when the time is over, and starts it again.
 */
import { NotifySocket } from "./notify-socket.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Variables that are for this process alone; a child must not speak for it. */
export const serviceVariables = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** How many checks there are in the time that systemd allows. */
const checksInTime = 3;

export class ServiceManager implements Disposable {
  readonly #socket: NotifySocket;
  readonly #watchdogUs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isReady = false;
  #isStopping = false;
  #isSilent = false;
  #isChecking = false;
  #status = "";

  private constructor(socket: NotifySocket, watchdogUs: number | undefined) {
    this.#socket = socket;
    this.#watchdogUs = watchdogUs;
  }

  /** undefined when nobody wants to hear. Throws when somebody does and can't be reached. */
  static connect(env: Environment, pid = process.pid): ServiceManager | undefined {
    const { NOTIFY_SOCKET: address, WATCHDOG_USEC: microseconds, WATCHDOG_PID: watched } = env;
    if (!address) return undefined;
    const isWatched = microseconds !== undefined && (watched === undefined || Number(watched) === pid);
    const watchdogUs = isWatched ? Number(microseconds) : 0;
    return new ServiceManager(new NotifySocket(address), watchdogUs > 0 ? watchdogUs : undefined);
  }

  /** What `systemctl status` shows. */
  status(text: string): void {
    if (text === this.#status) return;
    this.#status = text;
    this.#say([`STATUS=${text}`]);
  }

  ready(): void {
    this.#isReady = true;
    this.#say(["READY=1"]);
  }

  /** From now on the time to stop is what bounds this process: parts that are taken down need not answer any more. */
  stopping(): void {
    this.#isStopping = true;
    this.#say(["STOPPING=1"]);
  }

  /** The service is another process's, which speaks for it from now on: this one says nothing more. */
  handOver(pid: number): void {
    clearInterval(this.#timer);
    this.#say([`MAINPID=${pid}`]);
    this.#isSilent = true;
  }

  /** Checks at a third of the time that systemd waits, from now until disposed. Without WatchdogSec= nobody checks. */
  watch(check: () => Promise<void>): void {
    if (this.#watchdogUs === undefined) return;
    const each = () => void this.#check(check);
    this.#timer = setInterval(each, this.#watchdogUs / 1000 / checksInTime).unref();
    each();
  }

  async #check(check: () => Promise<void>): Promise<void> {
    if (this.#isStopping) return this.#say(["WATCHDOG=1"]);
    // One that has not ended is the answer already.
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      await check();
      this.#say([this.#isReady ? "WATCHDOG=1" : `EXTEND_TIMEOUT_USEC=${this.#watchdogUs}`]);
    } catch {
      // Silence says it.
    } finally {
      this.#isChecking = false;
    }
  }

  #say(assignments: readonly string[]): void {
    if (!this.#isSilent) this.#socket.send(assignments);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#socket[Symbol.dispose]();
  }
}
