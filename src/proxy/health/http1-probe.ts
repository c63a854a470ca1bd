/** An HTTP/1.1 request to a host, over a connection that is kept where the check says so. */
import * as http from "node:http";
import type * as net from "node:net";
import { asRecord, editCheckHeaders } from "./check-headers.ts";
import type { HttpCheck } from "./health-check-config.ts";
import { type HealthProbe, type ProbeOutcome, type ProbeTarget, unreachable } from "./health-probe.ts";
import { judgeHttpAnswer } from "./http-answer.ts";
import { openProbeConnection } from "./probe-connection.ts";

export class Http1Probe implements HealthProbe {
  readonly #check: HttpCheck;
  readonly #target: ProbeTarget;
  readonly #onServiceName: () => void;
  #agent: http.Agent | null = null;
  #request: http.ClientRequest | null = null;
  #stopConnecting: (() => void) | null = null;

  constructor(check: HttpCheck, target: ProbeTarget, onServiceName: () => void) {
    this.#check = check;
    this.#target = target;
    this.#onServiceName = onServiceName;
  }

  ask(done: (outcome: ProbeOutcome) => void): void {
    const { method, path, body, edits } = this.#check;
    const { authority, key, reusesConnection } = this.#target;
    this.#agent ??= this.#makeAgent();
    const headers = editCheckHeaders(["host", authority, "user-agent", "Envoy/HC"], edits, key);
    if (body !== null) headers.push("content-length", String(body.length));
    const request = http.request({
      agent: this.#agent,
      method,
      path,
      headers: asRecord(headers),
      setHost: false,
      joinDuplicateHeaders: true,
    });
    request.removeHeader("connection");
    this.#request = request;
    const settle = (outcome: ProbeOutcome) => {
      if (this.#request !== request) return;
      this.#request = null;
      if (!reusesConnection || outcome === unreachable) this.close();
      done(outcome);
    };
    request.on("error", () => settle(unreachable));
    request.once("close", () => settle(unreachable));
    request.once("response", (response) => this.#onResponse(response, settle));
    request.end(body ?? undefined);
  }

  giveUp(): void {
    this.close();
  }

  close(): void {
    const request = this.#request;
    this.#request = null;
    this.#stopConnecting?.();
    this.#stopConnecting = null;
    request?.destroy();
    this.#agent?.destroy();
    this.#agent = null;
  }

  #onResponse(response: http.IncomingMessage, settle: (outcome: ProbeOutcome) => void): void {
    const { receive, maxBodyBytes } = this.#check;
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on("error", () => settle(unreachable));
    response.on("data", (chunk: Buffer) => {
      if (receive.length === 0 || bytes >= maxBodyBytes) return;
      chunks.push(chunk);
      bytes += chunk.length;
    });
    response.once("end", () => {
      const answer = {
        status: response.statusCode ?? 0,
        header: (name: string) => response.headers[name]?.toString(),
        body: Buffer.concat(chunks).subarray(0, maxBodyBytes),
      };
      settle(judgeHttpAnswer(this.#check, answer, this.#onServiceName));
    });
  }

  #makeAgent(): http.Agent {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    agent.createConnection = (_options, connected) => {
      this.#stopConnecting = openProbeConnection(this.#target, "http1", (error, socket) => {
        this.#stopConnecting = null;
        (connected as (error: Error | null, socket?: net.Socket) => void)(error, socket ?? undefined);
      });
      return undefined as never;
    };
    return agent;
  }
}
