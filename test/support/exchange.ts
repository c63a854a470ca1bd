/** One request of a conformance case: sent as bytes, answered as something that two proxies can be compared by. */
import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import { parseResponses, RawConnection } from "./raw-client.ts";
import type { SeenRequest } from "./upstream.ts";

/** As YAML gives it; a string is its `line`. */
export interface RequestSpec {
  /** `GET /path`. */
  readonly line?: string;
  readonly host?: string;
  readonly headers?: Record<string, unknown> | readonly (readonly [string, string])[];
  readonly body?: string;
  /** What the upstream should do, see test/support/upstream.ts. */
  readonly reply?: unknown;
  /** Instead of all that: these bytes. Ends when the answer is whole, or with `until`, when that text has come. */
  readonly raw?: string;
  /** Bytes to be sent after the answer, on the same connection. */
  readonly then?: string;
  readonly until?: string;
  readonly listener?: string;
  readonly tls?: {
    readonly sni?: string;
    readonly alpn?: string[];
    readonly max?: "TLSv1.2" | "TLSv1.3";
    readonly min?: "TLSv1.3";
    /** The client's own: path of its files without `.crt` and `.key`. */
    readonly certificate?: string;
  };
  /** Sent so often, one after the other; only the set of outcomes is compared (weights, load balancing). */
  readonly repeat?: number;
  /** So many gRPC calls are waited for, of which some come when the response is through. */
  readonly calls?: number;
  /** So many requests reach upstreams, of which some come when the response is through. */
  readonly arrivals?: number;
  /** Sent so often at the same time; the sorted list of outcomes is compared. */
  readonly parallel?: number;
}

export interface Outcome {
  /** Why no connection came about; TLS alerts by name. */
  readonly refused?: string;
  readonly certificate?: string;
  readonly protocol?: string | null;
  readonly responses: readonly { readonly status: string; readonly headers: readonly string[]; readonly body: string }[];
  /** Bytes that are no response. */
  readonly rest?: string;
  /** "close": closed, "open": still there at the end of the file. */
  connection: "close" | "open";
}

export interface Exchange {
  outcome: Outcome;
  /** Undefined when there was no connection. */
  readonly connection: RawConnection | undefined;
}

export type Mask = (text: string) => string;

export function requestBytes(spec: RequestSpec, caseId: string): string {
  if (spec.raw !== undefined) return spec.raw;
  const { line = "GET /", host = "test.example", headers = {}, body } = spec;
  const pairs = Array.isArray(headers) ? (headers as [string, string][]) : Object.entries(headers);
  const all: [string, unknown][] = [
    ["host", host],
    ...pairs,
    ...(spec.reply ? ([["x-reply", JSON.stringify(spec.reply)]] as [string, string][]) : []),
    ["x-case", caseId],
    ...(body === undefined ? [] : ([["content-length", String(body.length)]] as [string, string][])),
  ];
  return `${line} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body ?? ""}`;
}

export async function exchange(port: number, spec: RequestSpec, caseId: string, mask: Mask, address?: string): Promise<Exchange> {
  let connection: RawConnection;
  try {
    connection = await RawConnection.open(port, spec.tls && tlsOptions(spec.tls), address);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { outcome: { refused: mask(code ?? message), responses: [], connection: "close" }, connection: undefined };
  }
  const bytes = requestBytes(spec, caseId);
  const methods = spec.raw === undefined ? [bytes.slice(0, bytes.indexOf(" "))] : ["GET"];
  connection.write(bytes);
  const isWhole = (received: Buffer) =>
    spec.until ? received.includes(spec.until) : parseResponses(received, methods).isComplete && received.length > 0;
  if (spec.then !== undefined) {
    await connection.until((received) => received.includes("\r\n\r\n"));
    connection.write(spec.then);
  }
  await connection.until(isWhole);
  const { responses } = parseResponses(connection.received, methods);
  const last = responses.at(-1);
  if (!spec.until && last?.headers.some(([name, value]) => name.toLowerCase() === "connection" && /close/i.test(value))) {
    await connection.closes();
  }
  return { outcome: describeOutcome(connection, methods, mask, spec), connection };
}

function describeOutcome(connection: RawConnection, methods: readonly string[], mask: Mask, spec: RequestSpec): Outcome {
  const { responses, rest } = parseResponses(connection.received, methods);
  return {
    ...(spec.tls && { certificate: String(connection.peerCertificate.subject?.CN), protocol: tlsProtocol(connection) }),
    responses: responses.map(({ statusLine, headers, body, isFramed }) => ({
      status: statusLine,
      headers: headers.map(([name, value]) => maskHeader(name, value, mask)),
      body: mask(isFramed ? body : `${body}[until the end of the connection]`),
    })),
    ...(rest !== "" && { rest: mask(rest) }),
    connection: connection.isClosed ? "close" : "open",
  };
}

function tlsProtocol(connection: RawConnection): string | null {
  const socket = connection.socket as import("node:tls").TLSSocket;
  return `${socket.getProtocol()} ${socket.alpnProtocol}`;
}

export function tlsOptions({ sni, alpn, max, min, certificate }: NonNullable<RequestSpec["tls"]>): ConnectionOptions {
  return {
    ...(sni !== undefined && { servername: sni }),
    ...(alpn && { ALPNProtocols: alpn }),
    ...(max && { maxVersion: max }),
    ...(min && { minVersion: min }),
    ...(certificate && { cert: readFileSync(`${certificate}.crt`), key: readFileSync(`${certificate}.key`) }),
  };
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** `name: value`, where of values that are never twice the same only the form is kept. */
export function maskHeader(name: string, value: string, mask: Mask): string {
  switch (name.toLowerCase()) {
    case "date":
      return `${name}: ${/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/.test(value) ? "<date>" : value}`;
    case "x-request-id":
      return `${name}: ${uuid.test(value) ? "<uuid>" : value}`;
    case "x-envoy-upstream-service-time":
      return `${name}: ${/^\d+$/.test(value) ? "<ms>" : value}`;
    case "x-envoy-expected-rq-timeout-ms":
      return `${name}: ${value.replace(/^\d+$/, timeoutBefore)}`;
    case "grpc-timeout":
      return `${name}: ${value.replace(/^\d+(?=m$)/, timeoutBefore)}`;
    default:
      return `${name}: ${mask(value)}`;
  }
}

/** What is left of a timeout, as the timeout that it is of: on a busy machine a good part of a second may have passed. */
function timeoutBefore(leftMs: string): string {
  const left = Number(leftMs);
  const step = left > 2_000 ? 1_000 : 500;
  return `~${Math.ceil(left / step) * step}`;
}

export interface DescribedRequest {
  readonly line: string;
  /** `name: value` */
  readonly headers: readonly string[];
  readonly body: string;
}

export function describeSeen({ method, path, version, headers, body }: SeenRequest, mask: Mask): DescribedRequest {
  return { line: `${method} ${mask(path)} HTTP/${version}`, headers: headers.map(([name, value]) => maskHeader(name, value, mask)), body };
}

/** Envoy has not got Istio's filters, so it does not tell an upstream of which workload it is. */
export function describeWithoutPeer(seen: SeenRequest, mask: Mask): DescribedRequest {
  const described = describeSeen(seen, mask);
  return { ...described, headers: described.headers.filter((header) => !header.toLowerCase().startsWith("x-envoy-peer-metadata")) };
}
