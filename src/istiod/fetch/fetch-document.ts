/**
 * A document of somebody else's over HTTP, with limits: whoever may write a RequestAuthentication chooses what the control plane asks for,
 * so the answer is small, soon there, and from no address that only means something on this machine's network link. Behind a proxy that
 * looks names up by itself the last holds for addresses alone.
 */
import { type LookupAddress, type LookupOptions, lookup } from "node:dns";
import { type ClientRequest, get as httpGet, type IncomingMessage } from "node:http";
import { get as httpsGet } from "node:https";
import { BlockList, isIP, isIPv6, type LookupFunction } from "node:net";
import { connect as connectTls, getCACertificates } from "node:tls";
import { type ProxyEnvironment, portOf, proxyFor } from "./proxy-environment.ts";
import { hostOf, openTunnel, proxyAuthorization, tlsOf } from "./proxy-tunnel.ts";

export interface FetchDocumentOptions {
  /** For all of it, redirects included. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** PEM of CAs that are trusted; default are this machine's and Node's. */
  readonly trustedCas?: readonly string[] | undefined;
  /** Absent: nobody is asked by way of a proxy. */
  readonly proxies?: ProxyEnvironment | undefined;
}

const maxBytes = 1024 * 1024;
const maxRedirects = 5;

/** Throws an Error whose message says what was wrong. */
export async function fetchDocument(url: string, { timeoutMs, signal, trustedCas, proxies }: FetchDocumentOptions): Promise<string> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
  try {
    let at = new URL(url);
    for (let redirects = 0; ; redirects++) {
      const response = await request(at, { signal: either, ca: trustedCas ?? machineCas(), proxies });
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

interface RequestOptions {
  readonly signal: AbortSignal;
  readonly ca: readonly string[];
  readonly proxies: ProxyEnvironment | undefined;
}

const headers = { accept: "application/json" };

async function request(url: URL, { signal, ca, proxies }: RequestOptions): Promise<IncomingMessage> {
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new Error(`${url.protocol} is neither http: nor https:`);
  const address = hostOf(url);
  // An address is connected to without being looked up.
  if (isIP(address) && isForbidden(address)) throw new Error(forbidden(address));
  const proxy = proxies && proxyFor(url, proxies);
  if (proxy) return requestThrough(proxy, url, signal, ca);
  const options = { signal, agent: false, lookup: lookupAllowed, headers };
  return answerTo((take) => (url.protocol === "https:" ? httpsGet(url, { ...options, ca: [...ca] }, take) : httpGet(url, options, take)));
}

/** HTTP proxies are told plain URLs as they are, and see nothing of https. */
async function requestThrough(proxy: URL, url: URL, signal: AbortSignal, ca: readonly string[]): Promise<IncomingMessage> {
  const isPlain = url.protocol === "http:";
  if (isPlain && proxy.protocol.startsWith("http")) {
    const authorization = proxyAuthorization(proxy);
    const options = {
      ...{ host: hostOf(proxy), port: portOf(proxy), path: url.href.replace(/#.*$/, ""), signal, agent: false as const },
      headers: { ...headers, host: url.host, ...(authorization && { "proxy-authorization": authorization }) },
    };
    return answerTo((take) => (proxy.protocol === "https:" ? httpsGet({ ...options, ...tlsOf(proxy, ca) }, take) : httpGet(options, take)));
  }
  const host = hostOf(url);
  const socket = await openTunnel(proxy, { host, port: portOf(url) }, { signal, ca });
  // Without an agent: one would make connections by itself.
  const options = { signal, headers };
  return answerTo((take) =>
    isPlain
      ? httpGet(url, { ...options, createConnection: () => socket }, take)
      : httpsGet(
          url,
          { ...options, createConnection: () => connectTls({ socket, ca: [...ca], host, ...(isIP(host) ? {} : { servername: host }) }) },
          take,
        ),
  );
}

function answerTo(send: (take: (response: IncomingMessage) => void) => ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => void send(resolve).on("error", reject));
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
