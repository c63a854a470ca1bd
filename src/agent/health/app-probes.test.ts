import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { AppProbes, isAppProbePath, parseAppProbes } from "./app-probes.ts";

const path = "/app-health/web/readyz";
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listen(server: TcpServer | Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}
const application = (handle: RequestListener) => listen(createServer(handle));

function ask(prober: object, headers: Record<string, string> = {}, asked = path) {
  const probes = new AppProbes(parseAppProbes(JSON.stringify({ [path]: prober })), {
    target: () => ({ host: "127.0.0.1", from: "127.0.0.6" }),
    statusPort: 15020,
  });
  return probes.answer(asked, { headers });
}
const failed = { status: 500, body: Buffer.alloc(0) };
const well = { status: 200, body: Buffer.alloc(0) };

describe("probes of the application by way of the agent", () => {
  it("pass on what the caller says, but not what is between him and the agent", async () => {
    const port = await application(({ headers, method, url }, response) => response.end(JSON.stringify({ headers, method, url })));
    const headers = {
      host: "web:15020",
      "user-agent": "kube-probe/1.30",
      "x-a": "1",
      connection: "keep-alive, x-a",
      te: "trailers",
      "content-length": "3",
    };
    const { status, body } = await ask({ httpGet: { port, path: "/a?b=c" } }, headers);
    expect(status).toBe(200);
    expect(JSON.parse(body.toString())).toEqual({
      headers: { host: `web:${port}`, "user-agent": "kube-probe/1.30", "x-a": "1", connection: "close" },
      method: "GET",
      url: "/a?b=c",
    });
  });

  it("pass back status and body, of which no more than a probe is for", async () => {
    const port = await application((_, response) => response.writeHead(503).end("x".repeat(64 * 1024)));
    const { status, body } = await ask({ httpGet: { port } });
    expect([status, body.length]).toEqual([503, 10 * 1024]);
  });

  it("follow redirects on the same host, ten at most, and take one that leads elsewhere for good", async () => {
    const port = await application(({ url = "" }, response) => {
      const left = Number(url.slice(1));
      if (Number.isNaN(left)) response.writeHead(302, { location: "http://elsewhere.test/" }).end();
      else if (left > 0) response.writeHead(301, { location: `/${left - 1}` }).end();
      else response.writeHead(204).end();
    });
    expect((await ask({ httpGet: { port, path: "/10" } })).status).toBe(204);
    expect(await ask({ httpGet: { port, path: "/11" } })).toEqual(failed);
    expect(await ask({ httpGet: { port, path: "/away" } })).toEqual(well);
  });

  it("take any certificate", async () => {
    const directory = mkdtempSync(join(tmpdir(), "app-probes-"));
    closing.push(() => rmSync(directory, { recursive: true }));
    const at = (name: string) => join(directory, name);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", at("key.pem")];
    execFileSync("openssl", ["req", "-x509", "-subj", "/CN=other", "-out", at("cert.pem"), ...key], { stdio: "ignore" });
    const tls = createTlsServer({ key: readFileSync(at("key.pem")), cert: readFileSync(at("cert.pem")) }, (_, response) =>
      response.end("tls"),
    );
    const port = await listen(tls);
    expect((await ask({ httpGet: { port, scheme: "HTTPS" } })).body.toString()).toBe("tls");
    expect(await ask({ httpGet: { port } })).toEqual(failed);
  });

  it("connect, for a probe of a socket", async () => {
    const server = createTcpServer((socket) => socket.on("error", () => undefined).resume());
    const port = await listen(server);
    expect(await ask({ tcpSocket: { port } })).toEqual(well);
    await closing.pop()!();
    expect(await ask({ tcpSocket: { port } })).toEqual(failed);
    expect(await ask({ grpc: { port } })).toEqual(failed);
  });

  it("fail when the application takes longer than the probe may", async () => {
    const port = await application(() => undefined);
    const server = closing.pop()!;
    closing.push(server);
    expect(await ask({ httpGet: { port }, timeoutSeconds: 1 })).toEqual(failed);
  });

  it("are those that are listed alone", async () => {
    const { status, body } = await ask({ tcpSocket: { port: 1 } }, {}, "/app-health/web/livez");
    expect([status, body.toString()]).toEqual([400, "app prober config does not exists for /app-health/web/livez"]);
    expect([isAppProbePath("/app-lifecycle/web/prestopz"), isAppProbePath("/healthz/ready")]).toEqual([true, false]);
  });

  it.each([
    ["{", /^ISTIO_KUBE_APP_PROBERS: is no JSON/],
    ["[]", /is no JSON object/],
    ['{"/healthz": {"tcpSocket": {"port": 1}}}', /"\/healthz" is no path of the form/],
    [`{"${path}": {}}`, /readyz: has to have one of httpGet, tcpSocket and grpc/],
    [`{"${path}": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}}`, /has to have one of/],
    [`{"${path}": {"httpGet": {"port": "http"}}}`, /httpGet\.port: "http" is no port's number/],
    [`{"${path}": {"tcpSocket": {"port": 70000}}}`, /tcpSocket\.port: 70000 is no port's number/],
    [`{"${path}": {"httpGet": {"port": 1, "path": "/a b"}}}`, /httpGet\.path: "\/a b" is no path/],
    [`{"${path}": {"httpGet": {"port": 1, "scheme": "ftp"}}}`, /httpGet\.scheme: "ftp"/],
    [`{"${path}": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}`, /timeoutSeconds: -1 is no number of seconds/],
  ])("are refused when they can't be: %s", (text, message) => {
    expect(() => parseAppProbes(text)).toThrow(message);
  });
});
