import { createServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { makeCertificate } from "../../../test/support/certificate.ts";
import { startHttpProxy, startSocksProxy } from "../../../test/support/http-proxy.ts";
import { fetchDocument } from "./fetch-document.ts";

const stack: (() => void)[] = [];
afterEach(() => {
  for (const close of stack.splice(0)) close();
});

async function serve(listener: RequestListener, tls?: { key: string; certificate: string }): Promise<number> {
  const server = tls ? createHttpsServer({ key: tls.key, cert: tls.certificate }, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  stack.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const get = (url: string, timeoutMs = 5000, trustedCas?: string[]) => fetchDocument(url, { timeoutMs, trustedCas });

describe("fetchDocument", () => {
  it("gives the body", async () => {
    const port = await serve((request, response) => response.end(`${request.method} ${request.url} ${request.headers.accept}`));
    expect(await get(`http://localhost:${port}/a?b`)).toBe("GET /a?b application/json");
  });

  it("follows redirects, five at most", async () => {
    const port = await serve((request, response) => {
      const left = Number(request.url!.slice(1));
      if (left === 0) response.end("there");
      else response.writeHead(302, { location: `/${left - 1}` }).end();
    });
    expect(await get(`http://localhost:${port}/5`)).toBe("there");
    await expect(get(`http://localhost:${port}/6`)).rejects.toThrow("more than 5 redirects");
  });

  it("takes certificates that it trusts, and no others", async () => {
    const certificate = makeCertificate("localhost");
    const port = await serve((_, response) => response.end("secret"), certificate);
    expect(await get(`https://localhost:${port}/`, 5000, [certificate.certificate])).toBe("secret");
    await expect(get(`https://localhost:${port}/`)).rejects.toThrow("self-signed certificate");
  });

  it("follows no redirect from https to http", async () => {
    const certificate = makeCertificate("localhost");
    const plain = await serve((_, response) => response.end("forged"));
    const port = await serve((_, response) => response.writeHead(301, { location: `http://localhost:${plain}/` }).end(), certificate);
    await expect(get(`https://localhost:${port}/`, 5000, [certificate.certificate])).rejects.toThrow("a redirect from https to http://");
  });

  it("takes no more than a mebibyte", async () => {
    const port = await serve((request, response) => response.end(Buffer.alloc(Number(request.url!.slice(1)), "x")));
    expect(await get(`http://localhost:${port}/1048576`)).toHaveLength(1_048_576);
    await expect(get(`http://localhost:${port}/1048577`)).rejects.toThrow("more than 1048576 bytes");
  });

  it("waits no longer than it is told, for the head or for the body", async () => {
    const port = await serve((request, response) => {
      if (request.url === "/body") response.write("half");
    });
    await expect(get(`http://localhost:${port}/head`, 50)).rejects.toThrow("no answer within 50 ms");
    await expect(get(`http://localhost:${port}/body`, 50)).rejects.toThrow("no answer within 50 ms");
  });

  it("takes no answer but 2xx", async () => {
    const port = await serve((_, response) => response.writeHead(404).end("{}"));
    await expect(get(`http://localhost:${port}/`)).rejects.toThrow("status 404");
  });

  it.each([
    "http://169.254.169.254/latest",
    "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/",
    "https://100.100.100.200/",
  ])("asks nobody at %s", async (url) => {
    await expect(get(url, 1000)).rejects.toThrow("is link-local or a cloud's own");
  });

  it("asks nobody there by way of a redirect", async () => {
    const port = await serve((_, response) => response.writeHead(302, { location: "http://169.254.169.254/" }).end());
    await expect(get(`http://localhost:${port}/`)).rejects.toThrow("is link-local or a cloud's own");
  });

  it.each(["file:///etc/passwd", "ftp://localhost/"])("doesn't know %s", async (url) => {
    await expect(get(url)).rejects.toThrow("is neither http: nor https:");
  });
});

describe("fetchDocument by way of a proxy", () => {
  const parts: AsyncDisposable[] = [];
  afterEach(async () => {
    for (const part of parts.splice(0)) await part[Symbol.asyncDispose]();
  });
  const use = <T extends AsyncDisposable>(part: T): T => {
    parts.push(part);
    return part;
  };
  const proxyCertificate = makeCertificate("localhost");
  const serverCertificate = makeCertificate("keys.test");
  const cas = [proxyCertificate.certificate, serverCertificate.certificate];
  const fetchBy = (url: string, proxy: string, noProxy = "", timeoutMs = 5000) =>
    fetchDocument(url, { timeoutMs, trustedCas: cas, proxies: { httpProxy: proxy, httpsProxy: proxy, noProxy } });
  const answering: RequestListener = (request, response) => response.end(`${request.url} for ${request.headers.host}`);

  it.each([
    ["http", undefined],
    ["https", proxyCertificate],
  ])("over %s gives it plain URLs as they are, and tunnels the others", async (scheme, tls) => {
    const proxy = use(await startHttpProxy(tls));
    const by = `${scheme}://user:p%40ss@localhost:${proxy.port}`;
    const plain = await serve(answering);
    expect(await fetchBy(`http://keys.test:${plain}/a?b`, by)).toBe(`/a?b for keys.test:${plain}`);
    const secure = await serve(answering, serverCertificate);
    expect(await fetchBy(`https://keys.test:${secure}/c`, by)).toBe(`/c for keys.test:${secure}`);
    expect(proxy.asked).toEqual([`GET http://keys.test:${plain}/a?b as user:p@ss`, `CONNECT keys.test:${secure} as user:p@ss`]);
  });

  it.each([
    ["nobody", "", undefined],
    ["a user", "user:secret@", "secret"],
  ])("over SOCKS has %s's names looked up there", async (_, credentials, password) => {
    const proxy = use(await startSocksProxy(password));
    const by = `socks5://${credentials}localhost:${proxy.port}`;
    const plain = await serve(answering);
    expect(await fetchBy(`http://keys.test:${plain}/a`, by)).toBe(`/a for keys.test:${plain}`);
    const secure = await serve(answering, serverCertificate);
    expect(await fetchBy(`https://keys.test:${secure}/c`, by)).toBe(`/c for keys.test:${secure}`);
    expect(proxy.asked.map((line) => line.split(" as ")[0])).toEqual([`SOCKS keys.test:${plain}`, `SOCKS keys.test:${secure}`]);
  });

  it("judges the server behind it, and the proxy itself, by the same CAs", async () => {
    const proxy = use(await startHttpProxy(makeCertificate("localhost")));
    await expect(fetchBy("https://keys.test/", `https://localhost:${proxy.port}`)).rejects.toThrow("self-signed certificate");
    const plainProxy = use(await startHttpProxy());
    const stranger = await serve(answering, makeCertificate("keys.test"));
    await expect(fetchBy(`https://keys.test:${stranger}/`, `http://localhost:${plainProxy.port}`)).rejects.toThrow(
      "self-signed certificate",
    );
    const other = await serve(answering, serverCertificate);
    await expect(fetchBy(`https://other.test:${other}/`, `http://localhost:${plainProxy.port}`)).rejects.toThrow(/altnames|Hostname/);
  });

  it("asks who is excepted directly, and so after a redirect", async () => {
    const proxy = use(await startHttpProxy());
    const direct = await serve((_, response) => response.end("direct"));
    const by = `localhost:${proxy.port}`;
    expect(await fetchBy(`http://localhost:${direct}/`, by)).toBe("direct");
    const redirecting = await serve((_, response) => response.writeHead(302, { location: `http://localhost:${direct}/` }).end());
    expect(await fetchBy(`http://keys.test:${redirecting}/`, by)).toBe("direct");
    expect(proxy.asked).toEqual([`GET http://keys.test:${redirecting}/`]);
    await expect(fetchBy(`http://keys.test:${direct}/`, by, "keys.test")).rejects.toThrow("ENOTFOUND");
  });

  it("keeps the limits: size, time, redirects, addresses", async () => {
    const proxy = use(await startHttpProxy());
    const by = `http://localhost:${proxy.port}`;
    const port = await serve((request, response) => {
      if (request.url === "/large") response.end(Buffer.alloc(1_048_577, "x"));
      else if (request.url === "/there") response.writeHead(302, { location: "http://169.254.169.254/" }).end();
    });
    await expect(fetchBy(`http://keys.test:${port}/large`, by)).rejects.toThrow("more than 1048576 bytes");
    await expect(fetchBy(`http://keys.test:${port}/slow`, by, "", 100)).rejects.toThrow("no answer within 100 ms");
    await expect(fetchBy(`http://keys.test:${port}/there`, by)).rejects.toThrow("is link-local or a cloud's own");
    const silent = await startSilent();
    for (const scheme of ["http", "socks5"])
      await expect(fetchBy("https://keys.test/", `${scheme}://localhost:${silent}`, "", 100)).rejects.toThrow("no answer within 100 ms");
  });

  it("says what the proxy says", async () => {
    const proxy = use(await startHttpProxy());
    await expect(fetchBy("https://keys.test:1/", `http://localhost:${proxy.port}`)).rejects.toThrow("the proxy answers 502 to CONNECT");
    const socks = use(await startSocksProxy("right"));
    await expect(fetchBy("https://keys.test:1/", `socks5://a:wrong@localhost:${socks.port}`)).rejects.toThrow(
      "the proxy refuses user and password",
    );
    await expect(fetchBy("https://keys.test:1/", `socks5://a:right@localhost:${socks.port}`)).rejects.toThrow("connection refused");
    await expect(fetchBy("https://keys.test:1/", `socks5://localhost:${proxy.port}`)).rejects.toThrow("does not speak SOCKS 5");
  });

  /** Takes connections and says nothing. */
  async function startSilent(): Promise<number> {
    const server = createTcpServer();
    await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
    stack.push(() => server.close());
    return (server.address() as AddressInfo).port;
  }
});
