/** A request over node:http(s), from an address of loopback that the test chooses. */
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";

export interface Ask {
  /** `GET /path`; the default is `GET /`. */
  readonly line?: string;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Address that the connection comes from; default 127.0.0.1. */
  readonly from?: string;
  /** How long the connection may say nothing; default: for ever. */
  readonly timeoutMs?: number;
  readonly tls?: { readonly key?: string; readonly cert?: string; readonly servername?: string; readonly ALPNProtocols?: string[] };
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export function askHttp(address: string, port: number, ask: Ask): Promise<Answer> {
  const [method, path] = (ask.line ?? "GET /").split(" ") as [string, string];
  const options = {
    host: address,
    port,
    method,
    path,
    localAddress: ask.from ?? "127.0.0.1",
    agent: false,
    ...(ask.timeoutMs === undefined ? {} : { timeout: ask.timeoutMs }),
    headers: {
      host: ask.host ?? "any.test",
      ...(ask.body === undefined ? {} : { "content-length": String(Buffer.byteLength(ask.body)) }),
      ...ask.headers,
    },
  };
  return new Promise((resolve, reject) => {
    const sent = ask.tls ? httpsRequest({ ...options, rejectUnauthorized: false, ...ask.tls }) : httpRequest(options);
    sent.on("timeout", () => sent.destroy(new Error("no answer")));
    sent.on("error", reject);
    sent.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks).toString("utf8") }),
      );
    });
    sent.end(ask.body);
  });
}
