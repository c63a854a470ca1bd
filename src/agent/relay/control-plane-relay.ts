/**
 * A stream to the control plane, beside the proxy's xDS stream and with the same credentials, on which it asks about this proxy: so an
 * operator can look into one that no connection leads to. A control plane without this service, a real istiod say, is left alone.
 */
import type { IncomingMessage } from "node:http";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, type ServiceError, status } from "@grpc/grpc-js";
import { NodeSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type AdminRequest,
  AdminRequestSchema,
  type AdminResponseSchema,
  type FromAgent,
  FromAgentSchema,
} from "../../api/gen/topsail/agent/v1/relay_pb.js";
import { ownChannel } from "../../lib/grpc-channel.ts";
import { log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { Access } from "../certificates/control-plane-access.ts";
import type { NodeIdentity } from "../node.ts";
import { askOwnPort } from "./ask-own-port.ts";
import type { OwnPort } from "./own-ports.ts";

const scope = log.scope("relay");

const method = "/topsail.agent.v1.AgentRelay/Serve";
const [firstRetryMs, maxRetryMs] = [1000, 30_000];
/** A stream that lasted so long was one that was taken. */
const servedMs = 10_000;
/** A control plane that can't do this now may be another one by then. */
const unimplementedRetryMs = 10 * 60_000;
const maxOpenQuestions = 4;
const maxPartBytes = 64 * 1024;
const maxAnswerBytes = 32 * 1024 * 1024;

export interface ControlPlaneRelayOptions {
  /** How the control plane is called; rejects when it can't be at all. */
  readonly access: () => Promise<Access>;
  readonly node: Pick<NodeIdentity, "id" | "metadata">;
  readonly ports: ReadonlyMap<number, OwnPort>;
  /** Between two streams. */
  readonly pause?: typeof pause;
}

type Stream = ClientDuplexStream<FromAgent, AdminRequest>;
type Part = MessageInitShape<typeof AdminResponseSchema>;

export class ControlPlaneRelay implements AsyncDisposable {
  readonly #options: ControlPlaneRelayOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #openQuestions = 0;
  #cancel: (() => void) | undefined;

  private constructor(options: ControlPlaneRelayOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  static start(options: ControlPlaneRelayOptions): ControlPlaneRelay {
    return new ControlPlaneRelay(options);
  }

  /** Ends the stream that is open, if any, for one that says who the proxy is by now. */
  reconnect(): void {
    this.#cancel?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { pause: wait = pause } = this.#options;
    let delayMs = firstRetryMs;
    while (!signal.aborted) {
      const { code, wasServed } = await this.#serve();
      if (signal.aborted) return;
      if (wasServed) delayMs = firstRetryMs;
      // Agents of a whole mesh do not all come back at once.
      await wait((code === status.UNIMPLEMENTED ? unimplementedRetryMs : delayMs) * (0.5 + Math.random()), signal);
      delayMs = Math.min(delayMs * 2, maxRetryMs);
    }
  }

  /** One stream, to its end. */
  async #serve(): Promise<{ readonly code: status; readonly wasServed: boolean }> {
    let client: Client | undefined;
    try {
      const { target, credentials, metadata, options } = await this.#options.access();
      // Stopped meanwhile: a stream that began now would be ended by nobody.
      if (this.#stop.signal.aborted) return { code: status.CANCELLED, wasServed: false };
      client = new Client(target, credentials, {
        ...ownChannel,
        ...options,
      });
      const stream = client.makeBidiStreamRequest<FromAgent, AdminRequest>(
        method,
        (value) => Buffer.from(toBinary(FromAgentSchema, value)),
        (bytes) => fromBinary(AdminRequestSchema, bytes),
        metadata,
      );
      return await this.#follow(stream);
    } catch (error) {
      scope.debug("the control plane can't be called", { reason: error instanceof Error ? error.message : error });
      return { code: status.UNAVAILABLE, wasServed: false };
    } finally {
      client?.close();
    }
  }

  #follow(stream: Stream): Promise<{ readonly code: status; readonly wasServed: boolean }> {
    const { id, metadata } = this.#options.node;
    const { signal } = this.#stop;
    const cancel = () => stream.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    this.#cancel = cancel;
    return new Promise((resolve) => {
      const startedAt = performance.now();
      const end = (code: status, reason: string) => {
        signal.removeEventListener("abort", cancel);
        this.#cancel = undefined;
        scope.debug("stream ended", { code: status[code], reason });
        resolve({ code, wasServed: performance.now() - startedAt > servedMs });
      };
      stream.on("data", (request: AdminRequest) => void this.#answer(request, stream));
      stream.on("error", (error: ServiceError) => end(error.code, error.details));
      stream.on("end", () => end(status.UNAVAILABLE, "the control plane ended the stream"));
      // What the check of the caller's identity reads, as on the xDS stream.
      const { NAMESPACE, SERVICE_ACCOUNT } = metadata as Record<string, string>;
      const node = create(NodeSchema, { id, metadata: { NAMESPACE: NAMESPACE!, SERVICE_ACCOUNT: SERVICE_ACCOUNT! } });
      stream.write(create(FromAgentSchema, { message: { case: "hello", value: { node } } }));
    });
  }

  async #answer(request: AdminRequest, stream: Stream): Promise<void> {
    const { id } = request;
    const send = (part: Part) => stream.write(create(FromAgentSchema, { message: { case: "response", value: { id, ...part } } }));
    const fail = (error: string) => send({ error, isLast: true });
    if (this.#openQuestions >= maxOpenQuestions) return void fail("this agent is asked too much at once");
    this.#openQuestions++;
    try {
      await relayBody(await askOwnPort(request, this.#options.ports), send, stream);
    } catch (error) {
      fail(error instanceof Error ? error.message : String(error));
    } finally {
      this.#openQuestions--;
    }
  }
}

async function relayBody(answer: IncomingMessage, send: (part: Part) => boolean, stream: Stream): Promise<void> {
  const head = { status: answer.statusCode ?? 0, contentType: answer.headers["content-type"] ?? "" };
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error(`the answer is larger than ${maxAnswerBytes} bytes`);
    for (let at = 0; at < chunk.length; at += maxPartBytes) {
      if (!send({ ...head, body: chunk.subarray(at, at + maxPartBytes) })) await drained(stream);
    }
  }
  send({ ...head, isLast: true });
}

/** Resolves when the stream takes more, or is over. */
function drained(stream: Stream): Promise<void> {
  if (stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      for (const name of ["drain", "close", "error", "end"]) stream.off(name, done);
      resolve();
    };
    for (const name of ["drain", "close", "error", "end"]) stream.on(name, done);
  });
}
