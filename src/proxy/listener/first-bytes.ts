/**
 * What listener filters find in the first bytes of a connection: a PROXY header, then whether TLS or HTTP follows.
 *
 *      take(bytes) -> more | done | refused
 */
import { filterApplies, type ListenerFilters } from "../filters/listener/index.ts";
import type { ProxyProtocolFilter } from "../filters/listener/proxy-protocol.ts";
import type { ProxyHeader } from "../proxy-protocol/read-header.ts";
import { type ClientHello, inspectClientHello } from "../tls/client-hello.ts";

export class FirstBytes {
  isTls = false;
  hello: ClientHello | null = null;
  applicationProtocols: readonly string[] = [];
  header: ProxyHeader | null = null;
  readonly #headerIsLast: boolean;
  #headerFilter: ProxyProtocolFilter | null;
  #wantsTls: boolean;
  #wantsHttp: boolean;

  constructor(filters: ListenerFilters, port: number) {
    this.#headerFilter = filterApplies(filters, "proxyProtocol", port) ? filters.proxyProtocol : null;
    this.#headerIsLast = filters.proxyProtocolIsLast;
    this.#wantsTls = filterApplies(filters, "tlsInspector", port);
    this.#wantsHttp = filterApplies(filters, "httpInspector", port);
  }

  /** Nobody wants to see any. */
  get isDone(): boolean {
    return this.#headerFilter === null && !this.#wantsTls && !this.#wantsHttp;
  }

  /** `bytes`: all that came so far, a header included that was found already. */
  take(bytes: Buffer): "more" | "done" | "refused" {
    if (this.#headerFilter !== null && !this.#headerIsLast) {
      const outcome = this.#takeHeader(this.#headerFilter, bytes);
      if (outcome !== "done") return outcome;
    }
    if (this.#wantsTls || this.#wantsHttp) {
      const rest = this.header === null ? bytes : bytes.subarray(this.header.length);
      if (rest.length === 0 || !this.#inspect(rest)) return "more";
    }
    return this.#headerFilter === null ? "done" : this.#takeHeader(this.#headerFilter, bytes);
  }

  #takeHeader(filter: ProxyProtocolFilter, bytes: Buffer): "more" | "done" | "refused" {
    const reading = filter.read(bytes);
    if (reading.kind === "more") return "more";
    if (reading.kind === "refused" || reading.kind === "disallowed") return "refused";
    this.#headerFilter = null;
    if (reading.kind === "found") this.header = reading.header;
    return "done";
  }

  /** Whether enough was there to tell. */
  #inspect(bytes: Buffer): boolean {
    const found = this.#wantsTls ? inspectClientHello(bytes) : notTls;
    if (found.kind === "more") return false;
    if (found.kind === "tls") {
      this.isTls = true;
      this.hello = found.hello;
      this.applicationProtocols = found.hello.alpn;
    } else {
      const protocol = this.#wantsHttp ? httpProtocol(bytes) : "";
      if (protocol === "more") return false;
      if (protocol !== "") this.applicationProtocols = [protocol];
    }
    this.#wantsTls = false;
    this.#wantsHttp = false;
    return true;
  }
}

const notTls = { kind: "none" } as const;

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** http_inspector: `http/1.0`, `http/1.1`, `h2c`, "" for none of them, `more` when the first line isn't there yet. */
function httpProtocol(bytes: Buffer): string {
  const text = bytes.latin1Slice(0, Math.min(bytes.length, 8192));
  if (h2Preface.startsWith(text.slice(0, h2Preface.length))) return text.length >= h2Preface.length ? "h2c" : "more";
  const lineEnd = text.indexOf("\n");
  if (lineEnd < 0) return /^[A-Za-z]{0,20}(?: [^\r]*)?\r?$/.test(text) && text.length < 8192 ? "more" : "";
  const match = /^[A-Z-]+ +\S+ +HTTP\/1\.([01])\r?$/.exec(text.slice(0, lineEnd));
  return match === null ? "" : `http/1.${match[1]}`;
}
