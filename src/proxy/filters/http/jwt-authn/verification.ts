/** What is found out about the tokens of one request, until the filter acts on it. */
import type { HttpStream } from "../../../http/http-stream.ts";
import { type JwtStatus, jwtStatus } from "./status.ts";

export class Verification {
  readonly stream: HttpStream;
  /** As the client sent it: a token may be taken out of it. */
  readonly path: string;
  readonly nowSeconds = Math.floor(Date.now() / 1000);
  /** The verdict, once there is one. */
  status: JwtStatus | null = null;
  /** The filter has stopped the request and waits. */
  isHeld = false;
  /** Metadata by key: payloads and headers of good tokens, failures of bad ones. */
  metadata: Map<string, unknown> | null = null;
  /** A token may lead to another route. */
  clearsRouteCache = false;
  /** A claim that must not become this header: it would end the line, or is otherwise no text. "" for none. */
  invalidHeader = "";

  constructor(stream: HttpStream) {
    this.stream = stream;
    this.path = stream.info.path;
  }

  note(key: string, value: unknown): void {
    this.metadata ??= new Map();
    this.metadata.set(key, value);
  }

  noteFailure(key: string, { code, text }: JwtStatus): void {
    if (key !== "") this.note(key, { code, message: text });
  }

  get isGood(): boolean {
    return this.status === jwtStatus.ok;
  }
}
