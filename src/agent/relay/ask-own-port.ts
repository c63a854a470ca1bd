/** Asks one of this machine's own ports what the control plane wants to know, within limits of kind, size and time. */
import { type IncomingMessage, request } from "node:http";
import type { OwnPort } from "./own-ports.ts";

export interface OwnQuestion {
  readonly port: number;
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array;
}

/** The question is not one that is answered. */
export class QuestionRefused extends Error {
  override readonly name = "QuestionRefused";
}

const timeoutMs = 10_000;
const maxBodyBytes = 64 * 1024;

/** Resolves with the head of the answer; the body is to be read. Rejects with QuestionRefused, or with what went wrong. */
export function askOwnPort({ port, method, path, body }: OwnQuestion, ports: ReadonlyMap<number, OwnPort>): Promise<IncomingMessage> {
  const own = ports.get(port);
  if (!own) throw new QuestionRefused(`port ${port} is not one that an agent relays`);
  if (!path.startsWith("/")) throw new QuestionRefused("the path does not begin with a slash");
  const [resource] = path.split("?", 1);
  if (method !== "GET" && !(method === "POST" && own.posts.has(resource!)))
    throw new QuestionRefused(`${method} ${resource} is not relayed`);
  if (body.length > maxBodyBytes) throw new QuestionRefused(`the body is larger than ${maxBodyBytes} bytes`);
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve, reject) => {
    const headers = method === "POST" ? { "content-length": body.length } : {};
    const call = request({ host: own.host, port: own.port, method, path, headers, agent: false, signal }, resolve);
    call.once("error", reject);
    call.end(method === "POST" ? body : undefined);
  });
}
