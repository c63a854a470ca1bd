/** Connections that a proxy makes for us: HTTP's CONNECT, and SOCKS 5 (RFC 1928, 1929). What the proxy is, is the operator's business alone. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect, isIP, isIPv6, type Socket } from "node:net";
import { parseIp } from "../../lib/ip-range.ts";
import { portOf } from "./proxy-environment.ts";

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface TunnelOptions {
  readonly signal: AbortSignal;
  /** PEM of CAs that an https proxy is judged by. */
  readonly ca: readonly string[];
}

/** Rejects with an Error that says what the proxy said. */
export function openTunnel(proxy: URL, target: Target, options: TunnelOptions): Promise<Socket> {
  return proxy.protocol.startsWith("socks5") ? openBySocks(proxy, target, options) : openByConnect(proxy, target, options);
}

/** `authorization` for the proxy; undefined where its URL names no user. */
export function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === "") return undefined;
  const both = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(both).toString("base64")}`;
}

/** How the proxy itself is judged; the Host header, which Node would go by, names the server behind it. */
export function tlsOf(proxy: URL, ca: readonly string[]): { ca: string[]; servername: string } {
  const host = hostOf(proxy);
  return { ca: [...ca], servername: isIP(host) === 0 ? host : "" };
}

export function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "");
}

function openByConnect(proxy: URL, { host, port }: Target, { signal, ca }: TunnelOptions): Promise<Socket> {
  const authority = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  const authorization = proxyAuthorization(proxy);
  const options = {
    host: hostOf(proxy),
    port: portOf(proxy),
    method: "CONNECT",
    path: authority,
    headers: { host: authority, ...(authorization && { "proxy-authorization": authorization }) },
    agent: false as const,
    signal,
  };
  return new Promise((resolve, reject) => {
    const sent = proxy.protocol === "https:" ? httpsRequest({ ...options, ...tlsOf(proxy, ca) }) : httpRequest(options);
    sent.on("connect", ({ statusCode = 0 }: IncomingMessage, socket: Socket) => {
      if (statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(new Error(`the proxy answers ${statusCode} to CONNECT`));
    });
    sent.on("response", (response) => {
      response.destroy();
      reject(new Error(`the proxy answers ${response.statusCode} to CONNECT`));
    });
    sent.on("error", reject);
    sent.end();
  });
}

const [socksVersion, authVersion] = [5, 1];
const [noAuthentication, byPassword] = [0, 2];
const problems = ["", "general failure", "not allowed", "network unreachable", "host unreachable", "connection refused", "TTL expired"];

async function openBySocks(proxy: URL, target: Target, { signal }: TunnelOptions): Promise<Socket> {
  const socket = connect(portOf(proxy), hostOf(proxy));
  const abort = () => socket.destroy(new Error("aborted"));
  signal.addEventListener("abort", abort, { once: true });
  try {
    const read = reader(socket);
    const hasUser = proxy.username !== "";
    socket.write(Buffer.from(hasUser ? [socksVersion, 2, noAuthentication, byPassword] : [socksVersion, 1, noAuthentication]));
    const [version, method] = await read(2);
    if (version !== socksVersion) throw new Error("the proxy does not speak SOCKS 5");
    if (method === byPassword && hasUser) {
      const [user, password] = [proxy.username, proxy.password].map((text) => Buffer.from(decodeURIComponent(text)).subarray(0, 255));
      socket.write(Buffer.concat([Buffer.from([authVersion, user!.length]), user!, Buffer.from([password!.length]), password!]));
      if ((await read(2))[1] !== 0) throw new Error("the proxy refuses user and password");
    } else if (method !== noAuthentication) throw new Error("the proxy offers no way to sign on");
    socket.write(connectRequest(target));
    const [, code = 1, , type] = await read(4);
    if (code !== 0) throw new Error(`the proxy can't connect: ${problems[code] ?? `code ${code}`}`);
    await read((type === 1 ? 4 : type === 4 ? 16 : (await read(1))[0]!) + 2);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The name goes to the proxy, which looks it up. */
function connectRequest({ host, port }: Target): Buffer {
  const words = parseIp(host);
  const address = words
    ? Buffer.from([isIP(host) === 4 ? 1 : 4, ...words.flatMap((word) => [24, 16, 8, 0].map((shift) => (word >>> shift) & 255))])
    : Buffer.concat([Buffer.from([3, Buffer.byteLength(host)]), Buffer.from(host)]);
  return Buffer.concat([Buffer.from([socksVersion, 1, 0]), address, Buffer.from([port >> 8, port & 255])]);
}

/** Reads so many bytes and no more: what follows is the server's. */
function reader(socket: Socket): (count: number) => Promise<Buffer> {
  return (count) =>
    new Promise((resolve, reject) => {
      const finish = (act: () => void) => {
        for (const [event, listener] of listeners) socket.off(event, listener);
        act();
      };
      const tryRead = () => {
        const bytes = socket.read(count) as Buffer | null;
        if (bytes) finish(() => resolve(bytes));
      };
      const listeners: [string, (error?: Error) => void][] = [
        ["readable", tryRead],
        ["error", (error) => finish(() => reject(error))],
        ["end", () => finish(() => reject(new Error("the proxy ended the connection")))],
      ];
      for (const [event, listener] of listeners) socket.on(event, listener);
      if (count === 0) finish(() => resolve(Buffer.alloc(0)));
      else tryRead();
    });
}
