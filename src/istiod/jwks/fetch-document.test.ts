import { createServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { makeCertificate } from "../../../test/support/certificate.ts";
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
