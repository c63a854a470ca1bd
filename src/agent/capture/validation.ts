/**
 * Sees whether rules work: a connection of the proxy's user to an address where nobody listens must come in at the proxy's port.
 *
 *   127.0.0.1:x ──proxy's user──> 127.0.0.6:15002 ──rules──> 127.0.0.1:15006: by us from 127.0.0.1:x, while the proxy does not run yet
 *                                                                             by the proxy, when it does: that it is taken at all is the sign
 *
 * Source: Istio tools/istio-iptables/pkg/validation/validator.go.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { log } from "../../lib/log.ts";
import { CaptureError, type CaptureSettings } from "./capture-settings.ts";
import type { IpFamily } from "./rule.ts";

const scope = log.scope("capture");
/** Istio's exit code, by which its CNI repairs what it sees. */
const failedExitCode = 126;
const periodMs = 200;
const own: Readonly<Record<IpFamily, string>> = { 4: "127.0.0.1", 6: "::1" };
const called: Readonly<Record<IpFamily, string>> = { 4: "127.0.0.6", 6: "::6" };

/** Rules that are not there yet may come until the time is over. Throws CaptureError. */
export async function validateCapture({ ipv6, inboundCapturePort, proxyUids, probe }: CaptureSettings): Promise<void> {
  const signal = AbortSignal.timeout(probe.timeoutMs);
  using _user = actAs(proxyUids[0]!);
  for (const family of ipv6 ? ([4, 6] as const) : ([4] as const)) {
    await using receiver = await Receiver.listen(own[family], Number(inboundCapturePort));
    while (!(await isRedirected(family, probe.port, receiver))) {
      await delay(periodMs, undefined, { signal }).catch(() => {
        const where = `${called[family]} port ${probe.port}`;
        throw new CaptureError(`rules are not in force: what the proxy's user sends to ${where} is not redirected`, failedExitCode);
      });
    }
  }
  scope.info("rules are in force");
}

async function isRedirected(family: IpFamily, port: number, receiver: Receiver): Promise<boolean> {
  const socket = connect({ host: called[family], port, localAddress: own[family], timeout: 1000 });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
      socket.once("timeout", () => reject(new Error("no answer")));
    });
    return await receiver.hasTaken(socket);
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** In the place of the proxy, where that does not run. */
class Receiver implements AsyncDisposable {
  readonly #server: Server | undefined;
  readonly #callers = new Set<number>();
  #onCaller: () => void = () => {};

  private constructor(server: Server | undefined) {
    this.#server = server;
    server?.on("connection", (caller) => {
      this.#callers.add(caller.remotePort ?? 0);
      caller.on("error", () => {}).destroy();
      this.#onCaller();
    });
  }

  static async listen(host: string, port: number): Promise<Receiver> {
    const server = createServer();
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once("error", resolve).listen(port, host, () => resolve(undefined));
    });
    if (error && error.code !== "EADDRINUSE")
      throw new CaptureError(`rules can't be validated: ${host} port ${port}: ${error.message}`, failedExitCode);
    return new Receiver(error ? undefined : server);
  }

  /** A connection that somebody else took has been taken by the proxy. */
  async hasTaken({ localPort }: Socket): Promise<boolean> {
    if (!this.#server) return true;
    if (!this.#callers.has(localPort!)) {
      await new Promise<void>((resolve) => {
        this.#onCaller = resolve;
        setTimeout(resolve, periodMs);
      });
    }
    return this.#callers.has(localPort!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = this.#server;
    if (server) await new Promise((resolve) => server.close(resolve));
  }
}

/** Rules tell traffic by the user that a socket was made as. `who`: number or name. */
function actAs(who: string): Disposable {
  const before = process.geteuid!();
  try {
    process.seteuid!(/^\d+$/.test(who) ? Number(who) : who);
  } catch (error) {
    throw new CaptureError(`rules can't be validated as the proxy's user "${who}": ${(error as Error).message}`, failedExitCode);
  }
  return { [Symbol.dispose]: () => process.seteuid!(before) };
}
