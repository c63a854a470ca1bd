/** An HTTP/2 request to a host. */
import { editCheckHeaders } from "./check-headers.ts";
import type { HttpCheck } from "./health-check-config.ts";
import { type HealthProbe, type ProbeOutcome, type ProbeTarget, unreachable } from "./health-probe.ts";
import { judgeHttpAnswer } from "./http-answer.ts";
import { Http2Exchange } from "./http2-exchange.ts";

export class Http2Probe implements HealthProbe {
  readonly #check: HttpCheck;
  readonly #target: ProbeTarget;
  readonly #onServiceName: () => void;
  readonly #exchange: Http2Exchange;

  constructor(check: HttpCheck, target: ProbeTarget, onServiceName: () => void) {
    this.#check = check;
    this.#target = target;
    this.#onServiceName = onServiceName;
    this.#exchange = new Http2Exchange(target);
  }

  ask(done: (outcome: ProbeOutcome) => void): void {
    const { method, path, body, edits, maxBodyBytes } = this.#check;
    const headers = [":method", method, ":path", path, ":authority", this.#target.authority, "user-agent", "Envoy/HC"];
    editCheckHeaders(headers, edits, this.#target.key);
    if (body !== null) headers.push("content-length", String(body.length));
    this.#exchange.ask(headers, body, maxBodyBytes, (answer) => {
      if (answer === null) {
        done(unreachable);
        return;
      }
      const { headers: received, body: bytes } = answer;
      const header = (name: string) => received[name]?.toString();
      done(judgeHttpAnswer(this.#check, { status: received[":status"] ?? 0, header, body: bytes }, this.#onServiceName));
    });
  }

  giveUp(): void {
    this.#exchange.close();
  }

  close(): void {
    this.#exchange.close();
  }
}
