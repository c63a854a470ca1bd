/** A request by node's HTTP/2 client, and all that came of it. */
import * as http2 from "node:http2";
import { digest, entries } from "./http2-upstream.ts";

export interface Http2Ask {
  readonly headers: http2.OutgoingHttpHeaders;
  readonly body?: Buffer | undefined;
  readonly trailers?: Readonly<Record<string, string>> | undefined;
  /** Gives the request up when its response has begun, or after a while. */
  readonly cancels?: "onResponse" | "soon" | undefined;
  /** Sends no end after its body. */
  readonly isUnfinished?: boolean | undefined;
}

export interface Http2Answer {
  readonly head: readonly string[];
  /** Statuses before the response. */
  readonly interim: readonly number[];
  readonly body: string;
  readonly trailers: readonly string[];
  /** The code with which the stream was closed. */
  readonly end: string;
}

/** `show`: headers without what is of the moment. */
export function askHttp2(
  session: http2.ClientHttp2Session,
  { headers, body, trailers, cancels, isUnfinished }: Http2Ask,
  show: (headers: http2.IncomingHttpHeaders) => string[] = entries,
): Promise<Http2Answer> {
  return new Promise((resolve) => {
    const stream = session.request(headers, { endStream: body === undefined, waitForTrailers: trailers !== undefined });
    let head: string[] = [];
    let ended: string[] = [];
    const interim: number[] = [];
    let text = "";
    stream.on("headers", (more) => interim.push(Number(more[":status"])));
    stream.on("continue", () => interim.push(100));
    stream.on("response", (response) => {
      head = show(response);
      if (cancels === "onResponse") stream.close(http2.constants.NGHTTP2_CANCEL);
    });
    stream.on("trailers", (response) => {
      ended = show(response);
    });
    stream.setEncoding("latin1").on("data", (part: string) => {
      text += part;
    });
    stream.on("wantTrailers", () => stream.sendTrailers(trailers ?? {}));
    stream.on("error", () => {});
    stream.on("close", () => resolve({ head, interim, body: digest(text), trailers: ended, end: String(stream.rstCode) }));
    if (isUnfinished) stream.write(body);
    else if (body !== undefined) stream.end(body);
    if (cancels === "soon") setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 100);
  });
}
