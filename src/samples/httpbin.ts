/** The parts of httpbin that people try gateways with: it says what it was asked, and answers as it is told. */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { html, json, type SampleHandler, type SampleRequest, type SampleResponse } from "./sample.ts";

const maxBytes = 100 * 1024;
const maxDelaySeconds = 10;

type Route = (request: SampleRequest, parameter: string) => SampleResponse | Promise<SampleResponse> | undefined;

const routes: readonly (readonly [pattern: RegExp, route: Route])[] = [
  [/^\/$/, () => html("<!doctype html><title>httpbin</title><h1>httpbin</h1><p>Try /headers, /get, /status/418, /delay/2, /anything.</p>")],
  [/^\/get$/, (request) => only(request, "GET", () => json(describe(request)))],
  [/^\/post$/, (request) => only(request, "POST", () => json(describeWithBody(request)))],
  [/^\/put$/, (request) => only(request, "PUT", () => json(describeWithBody(request)))],
  [/^\/patch$/, (request) => only(request, "PATCH", () => json(describeWithBody(request)))],
  [/^\/delete$/, (request) => only(request, "DELETE", () => json(describeWithBody(request)))],
  [/^\/anything(?:\/.*)?$/, (request) => json({ ...describeWithBody(request), method: request.method })],
  [/^\/headers$/, (request) => json({ headers: headersOf(request) })],
  [/^\/ip$/, (request) => json({ origin: originOf(request) })],
  [/^\/user-agent$/, (request) => json({ "user-agent": request.headers["user-agent"] ?? null })],
  [/^\/uuid$/, () => json({ uuid: randomUUID() })],
  [/^\/json$/, () => json({ slideshow: { title: "Sample", slides: [{ title: "One", type: "all" }] } })],
  [/^\/html$/, () => html("<!doctype html><title>Sample</title><p>A page of the sample mesh.</p>")],
  [/^\/cookies$/, (request) => json({ cookies: cookiesOf(request) })],
  [/^\/status\/(?<parameter>\d{3})$/, (_, code) => status(Number(code))],
  [/^\/delay\/(?<parameter>\d+(?:\.\d+)?)$/, delayed],
  [
    /^\/bytes\/(?<parameter>\d+)$/,
    (_, size) => ({ headers: { "content-type": "application/octet-stream" }, body: randomBytes(Math.min(Number(size), maxBytes)) }),
  ],
  [
    /^\/redirect\/(?<parameter>\d+)$/,
    (_, left) => ({ status: 302, headers: { location: Number(left) > 1 ? `/redirect/${Number(left) - 1}` : "/get" } }),
  ],
  [/^\/response-headers$/, (request) => ({ ...json(Object.fromEntries(request.url.searchParams)), headers: responseHeaders(request) })],
  [/^\/basic-auth\/(?<parameter>[^/]+\/[^/]+)$/, basicAuth],
  [/^\/bearer$/, bearer],
];

export const httpbin: SampleHandler = (request) => {
  for (const [pattern, route] of routes) {
    const match = pattern.exec(request.url.pathname);
    if (match) return route(request, match.groups?.parameter ?? "");
  }
  return undefined;
};

function only(request: SampleRequest, method: string, answer: () => SampleResponse): SampleResponse {
  const matches = request.method === method || (method === "GET" && request.method === "HEAD");
  return matches ? answer() : { status: 405, headers: { allow: method }, body: "" };
}

function describe(request: SampleRequest) {
  return {
    args: Object.fromEntries(request.url.searchParams),
    headers: headersOf(request),
    origin: originOf(request),
    url: urlOf(request),
  };
}

function describeWithBody(request: SampleRequest) {
  const data = request.body.toString("utf8");
  const type = request.headers["content-type"] ?? "";
  return {
    ...describe(request),
    data,
    form: type.startsWith("application/x-www-form-urlencoded") ? Object.fromEntries(new URLSearchParams(data)) : {},
    json: parsed(data),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** `Content-Type` for `content-type`, as httpbin shows them. */
function headersOf(request: SampleRequest): Record<string, string> {
  const capital = (name: string) => name.replace(/(?:^|-)[a-z]/g, (letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [capital(name), String(value)]));
}

function originOf(request: SampleRequest): string {
  const forwarded = request.headers["x-forwarded-for"];
  return typeof forwarded === "string" ? forwarded : request.remoteAddress;
}

function urlOf(request: SampleRequest): string {
  const scheme = request.headers["x-forwarded-proto"] ?? "http";
  return `${scheme}://${request.headers.host ?? "localhost"}${request.url.pathname}${request.url.search}`;
}

function cookiesOf(request: SampleRequest): Record<string, string> {
  const pairs = (request.headers.cookie ?? "").split(";").map((pair) => pair.trim().split("=", 2) as [string, string | undefined]);
  return Object.fromEntries(pairs.filter(([name]) => name).map(([name, value]) => [name, value ?? ""]));
}

function status(code: number): SampleResponse {
  if (code < 200 || code > 599) return { status: 400, body: "invalid status code\n" };
  if (code === 418) return { status: code, headers: { "content-type": "text/plain" }, body: "I am a teapot, short and stout.\n" };
  if ([301, 302, 303, 307, 308].includes(code)) return { status: code, headers: { location: "/get" } };
  return { status: code };
}

async function delayed(request: SampleRequest, seconds: string): Promise<SampleResponse> {
  await delay(Math.min(Number(seconds), maxDelaySeconds) * 1000);
  return json(describe(request));
}

function responseHeaders(request: SampleRequest): Record<string, string> {
  const wanted = [...request.url.searchParams].filter(
    ([name, value]) =>
      /^[\w-]+$/.test(name) && /^[\x20-\x7e]*$/.test(value) && !/^(content-length|transfer-encoding|connection)$/i.test(name),
  );
  return { "content-type": "application/json", ...Object.fromEntries(wanted) };
}

function basicAuth(request: SampleRequest, pair: string): SampleResponse {
  const [user, password] = pair.split("/", 2) as [string, string];
  const expected = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  if (request.headers.authorization === expected) return json({ authenticated: true, user });
  return { status: 401, headers: { "www-authenticate": 'Basic realm="Fake Realm"' } };
}

function bearer(request: SampleRequest): SampleResponse {
  const token = /^Bearer (?<token>\S+)$/.exec(request.headers.authorization ?? "")?.groups?.token;
  return token ? json({ authenticated: true, token }) : { status: 401, headers: { "www-authenticate": "Bearer" } };
}
