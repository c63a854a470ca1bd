/** One agent's stream: questions to its proxy go down, answers come up in parts and in any order. */
import { create } from "@bufbuild/protobuf";
import { type AdminRequest, AdminRequestSchema, type AdminResponse } from "../../api/gen/topsail/agent/v1/relay_pb.js";

export interface AdminQuestion {
  /** By Istio's numbers: 15000 for the proxy's admin interface. */
  readonly port: number;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly body: Uint8Array;
}

export interface AdminAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: Buffer;
}

/** Why there is no answer. */
export class RelayError extends Error {
  override readonly name = "RelayError";
  readonly reason: "refused" | "gone" | "busy" | "late" | "too large";

  constructor(reason: RelayError["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface AgentRelayOptions {
  readonly send: (request: AdminRequest) => void;
  /** Default 15 s. */
  readonly timeoutMs?: number;
}

const maxOpenQuestions = 4;
export const maxAnswerBytes = 32 * 1024 * 1024;

interface Open {
  readonly parts: Uint8Array[];
  readonly timer: NodeJS.Timeout;
  bytes: number;
  head: { readonly status: number; readonly contentType: string } | undefined;
  readonly resolve: (answer: AdminAnswer) => void;
  readonly reject: (error: RelayError) => void;
}

export class AgentRelay implements Disposable {
  readonly #options: AgentRelayOptions;
  readonly #open = new Map<number, Open>();
  #lastId = 0;
  #isClosed = false;

  constructor(options: AgentRelayOptions) {
    this.#options = options;
  }

  /** Rejects with RelayError. */
  ask(question: AdminQuestion): Promise<AdminAnswer> {
    if (this.#isClosed) return Promise.reject(gone());
    if (this.#open.size >= maxOpenQuestions)
      return Promise.reject(new RelayError("busy", "the agent is already asked as much as it answers at once"));
    this.#lastId = (this.#lastId + 1) >>> 0;
    const id = this.#lastId;
    const { timeoutMs = 15_000, send } = this.#options;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#take(id)?.reject(new RelayError("late", "the agent did not answer in time")), timeoutMs);
      this.#open.set(id, { parts: [], timer, bytes: 0, head: undefined, resolve, reject });
      send(create(AdminRequestSchema, { id, ...question, body: new Uint8Array(question.body) }));
    });
  }

  /** A part for nobody is one that came too late. */
  onResponse({ id, status, contentType, body, isLast, error }: AdminResponse): void {
    const open = this.#open.get(id);
    if (!open) return;
    if (error !== "") {
      this.#take(id)?.reject(new RelayError("refused", error));
      return;
    }
    open.head ??= { status, contentType };
    open.bytes += body.length;
    if (open.bytes > maxAnswerBytes) {
      this.#take(id)?.reject(new RelayError("too large", `the answer is larger than ${maxAnswerBytes} bytes`));
      return;
    }
    open.parts.push(body);
    if (isLast) this.#take(id)?.resolve({ ...open.head, body: Buffer.concat(open.parts, open.bytes) });
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const id of [...this.#open.keys()]) this.#take(id)?.reject(gone());
  }

  #take(id: number): Open | undefined {
    const open = this.#open.get(id);
    this.#open.delete(id);
    clearTimeout(open?.timer);
    return open;
  }
}

function gone(): RelayError {
  return new RelayError("gone", "the agent is not connected any more");
}
