/**
 * A document of somebody else's over HTTP, with limits: whoever may write a RequestAuthentication chooses what the control plane asks for,
 * so the answer is small, soon there, and from no address that only means something on this machine's network link.
 */
import { type LookupAddress, type LookupOptions, lookup } from "node:dns";
import { get as httpGet, type IncomingMessage } from "node:http";
import { get as httpsGet } from "node:https";
import { BlockList, isIP, isIPv6, type LookupFunction } from "node:net";
import { getCACertificates } from "node:tls";

export interface FetchDocumentOptions {
  /** For all of it, redirects included. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** PEM of CAs that are trusted; default are this machine's and Node's. */
  readonly trustedCas?: readonly string[] | undefined;
}

const maxBytes = 1024 * 1024;
const maxRedirects = 5;

/** Throws an Error whose message says what was wrong. */
export async function fetchDocument(url: string, { timeoutMs, signal, trustedCas }: FetchDocumentOptions): Promise<string> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
  try {
    let at = new URL(url);
    for (let redirects = 0; ; redirects++) {
      const response = await request(at, either, trustedCas);
      const next = redirectOf(response, at);
      if (!next) return await bodyOf(response);
      response.destroy();
      if (redirects === maxRedirects) throw new Error(`more than ${maxRedirects} redirects`);
      if (at.protocol === "https:" && next.protocol === "http:") throw new Error(`a redirect from https to ${next.href}`);
      at = next;
    }
  } catch (error) {
    if (deadline.aborted) throw new Error(`no answer within ${timeoutMs} ms`, { cause: error });
    throw error;
  }
}

function request(url: URL, signal: AbortSignal, trustedCas: readonly string[] | undefined): Promise<IncomingMessage> {
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new Error(`${url.protocol} is neither http: nor https:`);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  // An address is connected to without being looked up.
  if (isIP(host) && isForbidden(host)) throw new Error(forbidden(host));
  const options = { signal, agent: false, lookup: lookupAllowed, headers: { accept: "application/json" } };
  return new Promise((resolve, reject) => {
    const sent =
      url.protocol === "https:"
        ? httpsGet(url, { ...options, ca: [...(trustedCas ?? machineCas())] }, resolve)
        : httpGet(url, options, resolve);
    sent.on("error", reject);
  });
}

let cas: readonly string[] | undefined;

function machineCas(): readonly string[] {
  cas ??= [...new Set([...getCACertificates("default"), ...getCACertificates("system")])];
  return cas;
}

function redirectOf({ statusCode = 0, headers }: IncomingMessage, from: URL): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(statusCode) || headers.location === undefined) return undefined;
  return new URL(headers.location, from);
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const { statusCode = 0 } = response;
  if (statusCode < 200 || statusCode >= 300) {
    response.destroy();
    throw new Error(`status ${statusCode}`);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      response.destroy();
      throw new Error(`more than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Link-local addresses, where clouds answer questions about the machine's own credentials, and such addresses elsewhere. */
const forbiddenAddresses = new BlockList();
forbiddenAddresses.addSubnet("169.254.0.0", 16, "ipv4");
forbiddenAddresses.addSubnet("fe80::", 10, "ipv6");
forbiddenAddresses.addAddress("fd00:ec2::254", "ipv6");
forbiddenAddresses.addAddress("100.100.100.200", "ipv4");
forbiddenAddresses.addAddress("168.63.129.16", "ipv4");

function isForbidden(address: string): boolean {
  return forbiddenAddresses.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}

function forbidden(address: string): string {
  return `address ${address} is link-local or a cloud's own`;
}

/** At the moment of connecting, so that no name can mean one address when it is checked and another when it is used. */
const lookupAllowed = ((
  host: string,
  options: LookupOptions,
  done: (error: Error | null, found: string | LookupAddress[], family?: number) => void,
) => {
  lookup(host, { ...options, all: true }, (error, addresses) => {
    if (error) return done(error, []);
    const [first] = addresses;
    const bad = addresses.find(({ address }) => isForbidden(address));
    if (bad) return done(new Error(forbidden(bad.address)), []);
    if (options.all) return done(null, addresses);
    return done(null, first?.address ?? "", first?.family);
  });
}) as LookupFunction;
