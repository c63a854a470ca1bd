/** How a proxy's admin interface is reached: an Envoy's by its port, that of a proxy in this process without one. */
import { formatHostPort, type HostPort } from "../lib/host-port.ts";

export interface AdminEndpoint {
  /** Counters and gauges whose names match; those of clusters need not be among them. */
  numbers(names: RegExp): Promise<ReadonlyMap<string, number>>;
  /** Responses carry `connection: close` while new connections are still taken; with `skipExit` they are taken for good. */
  drain(options: DrainOptions): Promise<void>;
}

export interface DrainOptions {
  /** Not the listeners by which applications call out. */
  readonly inboundOnly: boolean;
  readonly skipExit: boolean;
}

const timeoutMs = 2_000;

export class HttpAdminEndpoint implements AdminEndpoint {
  readonly #base: string;

  constructor(address: HostPort) {
    this.#base = `http://${formatHostPort(address)}`;
  }

  async numbers(names: RegExp): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#ask(`/stats?filter=${encodeURIComponent(names.source)}`, "GET");
    const lines = (await answer.text()).split("\n").filter(Boolean);
    return new Map(
      lines.map((line): [string, number] => {
        const colon = line.lastIndexOf(": ");
        return [line.slice(0, colon), Number(line.slice(colon + 2))];
      }),
    );
  }

  async drain({ inboundOnly, skipExit }: DrainOptions): Promise<void> {
    await this.#ask(`/drain_listeners?graceful${inboundOnly ? "&inboundonly" : ""}${skipExit ? "&skip_exit" : ""}`, "POST");
  }

  async #ask(path: string, method: string): Promise<Response> {
    const answer = await fetch(`${this.#base}${path}`, { method, signal: AbortSignal.timeout(timeoutMs) });
    if (!answer.ok) throw new Error(`admin answers ${answer.status} to ${path}`);
    return answer;
  }
}
