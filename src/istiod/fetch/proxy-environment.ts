/**
 * By which proxy a URL is fetched, as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say it to programs in Go, Istio's among them. Names in capitals
 * win over small ones. Source: golang.org/x/net/http/httpproxy.
 *
 *   HTTPS_PROXY for https URLs, HTTP_PROXY for http ones: a URL, or host[:port], which means http
 *   NO_PROXY    *, or a list of: an address, a range of them, a host and all below it, .host for what is below alone; each maybe with a port
 *   localhost and loopback addresses are asked directly, whatever is set
 */
import { isIP } from "node:net";
import { IpRange, parseIp } from "../../lib/ip-range.ts";
import { isLoopback } from "../../lib/loopback.ts";

export interface ProxyEnvironment {
  readonly httpProxy: string;
  readonly httpsProxy: string;
  readonly noProxy: string;
}

/** REQUEST_METHOD says that this is a CGI program, whose HTTP_PROXY is a header of a client's. */
export function readProxyEnvironment(env: Readonly<Record<string, string | undefined>>): ProxyEnvironment {
  return {
    httpProxy: env.REQUEST_METHOD ? "" : env.HTTP_PROXY || env.http_proxy || "",
    httpsProxy: env.HTTPS_PROXY || env.https_proxy || "",
    noProxy: env.NO_PROXY || env.no_proxy || "",
  };
}

const schemes = new Set(["http:", "https:", "socks5:", "socks5h:"]);
const defaultPorts: Readonly<Record<string, string>> = { "http:": "80", "https:": "443", "socks5:": "1080", "socks5h:": "1080" };

/** Undefined: directly. Throws an Error for a proxy that can't be used; the message holds no password. */
export function proxyFor(url: URL, { httpProxy, httpsProxy, noProxy }: ProxyEnvironment): URL | undefined {
  const [given, variable] = url.protocol === "https:" ? [httpsProxy, "HTTPS_PROXY"] : [httpProxy, "HTTP_PROXY"];
  if (given === "" || isDirect(url, noProxy)) return undefined;
  const text = given.includes("://") ? given : `http://${given}`;
  if (!URL.canParse(text) || !schemes.has(new URL(text).protocol))
    throw new Error(`${variable}: is no URL of an http, https or socks5 proxy`);
  return new URL(text);
}

export function portOf(url: URL): number {
  return Number(url.port || defaultPorts[url.protocol]);
}

function isDirect(url: URL, noProxy: string): boolean {
  const host = unmapped(url.hostname.replace(/^\[|\]$/g, "").toLowerCase());
  if (host === "localhost" || (isIP(host) !== 0 && isLoopback(host))) return true;
  const port = String(portOf(url));
  return noProxy
    .split(",")
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => entry !== "" && excludes(entry, host, port));
}

function excludes(entry: string, host: string, port: string): boolean {
  if (entry === "*") return true;
  if (entry.includes("/")) return isIP(host) !== 0 && isInRange(host, entry);
  const { name, wantedPort } = splitPort(entry);
  if (wantedPort !== undefined && wantedPort !== port) return false;
  if (isIP(name) !== 0) return isIP(host) !== 0 && sameAddress(name, host);
  if (isIP(host) !== 0) return false;
  const suffix = name.startsWith("*.") ? name.slice(1) : name;
  if (suffix.startsWith(".")) return host.endsWith(suffix);
  return host === suffix || host.endsWith(`.${suffix}`);
}

/** `::ffff:10.0.0.1` is 10.0.0.1. */
function unmapped(host: string): string {
  const words = isIP(host) === 6 ? parseIp(host)! : [];
  const [a, b, c, last] = words;
  if (a !== 0 || b !== 0 || c !== 0xffff) return host;
  return [24, 16, 8, 0].map((shift) => (last! >>> shift) & 255).join(".");
}

/** `[::1]:80`, `a.test:80`; an IPv6 address without brackets has no port, and brackets alone mean nothing. */
function splitPort(entry: string): { readonly name: string; readonly wantedPort: string | undefined } {
  const match = /^(?:\[(?<v6>[^\]]+)\]:(?<v6port>\d+)|(?<name>[^:[]*)(?::(?<port>\d+))?)$/.exec(entry);
  if (!match) return { name: entry, wantedPort: undefined };
  return { name: match.groups!.v6 ?? match.groups!.name!, wantedPort: match.groups!.port ?? match.groups!.v6port };
}

function isInRange(host: string, range: string): boolean {
  const [base = "", length = ""] = range.split("/");
  const [words, address] = [parseIp(base), parseIp(host)];
  return words !== null && address !== null && /^\d+$/.test(length) && new IpRange(words, Number(length)).contains(address);
}

function sameAddress(a: string, b: string): boolean {
  return parseIp(a)?.join() === parseIp(b)?.join();
}
