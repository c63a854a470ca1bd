/**
 * Where requests go and what becomes of them on the way: versions by weight and by header, what is rewritten and redirected, delays and failures on
 * purpose, copies, services outside of the mesh and the gateway that leads there. The steps build on each other, as somebody types them.
 */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificate } from "../support/certificate.ts";
import { httpGet, istioObject, type Json, LabMesh, labDomain, labProxies } from "../support/lab-mesh.ts";
import { samplesOf } from "../support/prometheus.ts";

const external = "books.example.org";
const certificate = makeCertificate(external);
const patience = { timeout: 30_000 };

/** Answers with what it sees of who asks. */
async function startExternal(stack: AsyncDisposableStack, isTls: boolean): Promise<number> {
  const answer = (request: IncomingMessage) =>
    JSON.stringify({
      host: request.headers.host,
      via: request.headers["x-via"] ?? "",
      sni: (request.socket as TLSSocket).servername ?? "",
    });
  const server: Server = isTls
    ? createHttpsServer({ cert: certificate.certificate, key: certificate.key }, (request, response) => response.end(answer(request)))
    : createServer({ keepAliveTimeout: 600_000 }, (request, response) => response.end(answer(request)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

describe.each(labProxies)("Traffic on a mesh, run by $name", ({ binaryPath }) => {
  const stack = new AsyncDisposableStack();
  let lab: LabMesh;
  let plainPort: number;
  let tlsPort: number;

  beforeAll(async () => {
    plainPort = await startExternal(stack, false);
    tlsPort = await startExternal(stack, true);
    const workloads = [{ name: "customers" }, { name: "customers-v2" }, { name: "httpbin" }] as const;
    const meshConfig = { outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } };
    lab = stack.use(await LabMesh.start({ network: binaryPath ? 17 : 16, binaryPath, workloads, meshConfig, hasEgress: true }));
    const subsets = ["v1", "v2"].map((version) => ({ name: version, labels: { version } }));
    lab.apply("versions", istioObject("networking", "DestinationRule", "customers-versions", { host: "customers", subsets }));
  }, 90_000);
  afterAll(() => stack.disposeAsync(), 30_000);

  const version = (name: string, weight?: number) => ({
    destination: { host: "customers", subset: name, port: { number: 80 } },
    ...(weight === undefined ? {} : { weight }),
  });
  const route = (...http: Json[]) =>
    lab.apply("routes", istioObject("networking", "VirtualService", "customers-mesh", { hosts: [`customers.${labDomain}`], http }));
  const ask = (path = "/", headers: Record<string, string> = {}) => lab.between("httpbin", "customers", path, headers);
  /** v1 gives names alone. */
  const versionOf = ({ body }: { readonly body: string }) => (body.includes('"city"') ? "v2" : body.includes('"name"') ? "v1" : body);
  const asked = async (path = "/", headers: Record<string, string> = {}) => versionOf(await ask(path, headers));

  async function tally(count: number): Promise<Record<string, number>> {
    const seen: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const got = await asked();
      seen[got] = (seen[got] ?? 0) + 1;
    }
    return seen;
  }

  it("sends everything to one version, then shares it by weight", async () => {
    route({ route: [version("v2")] });
    await expect.poll(() => tally(10), patience).toEqual({ v2: 10 });
    route({ route: [version("v1", 75), version("v2", 25)] });
    await expect.poll(async () => Object.keys(await tally(20)).length, patience).toBe(2);
    const { v1 = 0, v2 = 0 } = await tally(400);
    expect(v1 + v2).toBe(400);
    // Six standard deviations to either side.
    expect(v1).toBeGreaterThan(300 - 6 * Math.sqrt(400 * 0.75 * 0.25));
    expect(v1).toBeLessThan(300 + 6 * Math.sqrt(400 * 0.75 * 0.25));
  }, 60_000);

  it("chooses by headers: all of a match must hold, and one match is enough", async () => {
    route(
      {
        match: [
          { headers: { user: { exact: "debug" }, "x-stage": { prefix: "be" } } },
          { uri: { prefix: "/new" } },
          { queryParams: { v: { regex: "[2-9]" } }, withoutHeaders: { "x-old": {} } },
        ],
        rewrite: { uri: "/" },
        route: [version("v2")],
      },
      { route: [version("v1")] },
    );
    await expect.poll(() => asked("/new"), patience).toBe("v2");
    expect(await asked("/", { user: "debug", "x-stage": "beta" })).toBe("v2");
    expect(await asked("/", { user: "debug" })).toBe("v1");
    expect(await asked("/?v=2")).toBe("v2");
    expect(await asked("/?v=1")).toBe("v1");
    expect(await asked("/?v=2", { "x-old": "1" })).toBe("v1");
  });

  it("rewrites, redirects, and changes headers", async () => {
    const httpbin = { destination: { host: "httpbin", port: { number: 80 } } };
    route(
      { match: [{ uri: { prefix: "/old/" } }], redirect: { uri: "/new", authority: "elsewhere.test", redirectCode: 302 } },
      { match: [{ uri: { prefix: "/direct" } }], directResponse: { status: 418, body: { string: "by the proxy" } } },
      {
        match: [{ uri: { prefix: "/echo" } }],
        rewrite: { uri: "/headers", authority: "rewritten.test" },
        headers: { request: { set: { "x-via": "mesh" }, remove: ["x-secret"] }, response: { add: { "x-answer": "changed" } } },
        route: [{ ...httpbin, headers: { request: { add: { "x-route": "weighted" } } } }],
      },
      { route: [version("v1")] },
    );
    await expect.poll(async () => (await ask("/direct")).status, patience).toBe(418);
    const redirected = await ask("/old/page");
    expect([redirected.status, redirected.headers.location]).toEqual([302, "http://elsewhere.test/new"]);
    const echoed = await ask("/echo", { "x-secret": "hidden" });
    expect(echoed.headers["x-answer"]).toBe("changed");
    const { headers } = JSON.parse(echoed.body) as { headers: Record<string, string> };
    expect(headers).toMatchObject({ Host: "rewritten.test", "X-Via": "mesh", "X-Route": "weighted" });
    expect(headers).not.toHaveProperty("X-Secret");
  });

  it("fails and delays on purpose, and does not try again what it failed itself", async () => {
    route({
      fault: { abort: { percentage: { value: 100 }, httpStatus: 418 } },
      retries: { attempts: 3, retryOn: "retriable-4xx,5xx" },
      route: [version("v1")],
    });
    await expect.poll(async () => (await ask()).status, patience).toBe(418);
    route({ fault: { abort: { percentage: { value: 50 }, httpStatus: 503 } }, route: [version("v1")] });
    await expect.poll(async () => (await ask()).status === 200, patience).toBe(true);
    const statuses: number[] = [];
    for (let i = 0; i < 200; i++) statuses.push((await ask()).status);
    const failed = statuses.filter((status) => status === 503).length;
    expect(statuses.every((status) => status === 200 || status === 503)).toBe(true);
    expect(Math.abs(failed - 100)).toBeLessThan(6 * Math.sqrt(200 * 0.25));
    route({ fault: { delay: { percentage: { value: 100 }, fixedDelay: "0.4s" } }, route: [version("v1")] });
    await expect
      .poll(async () => {
        const before = performance.now();
        await ask();
        return performance.now() - before >= 399;
      }, patience)
      .toBe(true);
  }, 60_000);

  it("gives up after the timeout, and tries again what failed", async () => {
    const httpbin = { destination: { host: "httpbin", port: { number: 80 } } };
    route(
      { match: [{ uri: { prefix: "/delay" } }], timeout: "0.3s", route: [httpbin] },
      { match: [{ uri: { prefix: "/status/503" } }], retries: { attempts: 2, retryOn: "5xx" }, route: [httpbin] },
      { route: [version("v1")] },
    );
    await expect.poll(async () => (await ask("/delay/5")).status, patience).toBe(504);
    if (binaryPath) return; // Envoy without Istio's filters has no such metrics.
    const served = async () =>
      samplesOf(await lab.metrics("httpbin"), "istio_requests_total", { reporter: "destination", response_code: "503" }).reduce(
        (sum, { value }) => sum + value,
        0,
      );
    const before = await served();
    expect((await ask("/status/503")).status).toBe(503);
    await expect.poll(served, patience).toBe(before + 3);
  });

  it("sends copies that nobody waits for", async () => {
    route({ route: [version("v1")], mirror: { host: "customers", subset: "v2", port: { number: 80 } }, mirrorPercentage: { value: 100 } });
    await expect.poll(() => tally(10), patience).toEqual({ v1: 10 });
    if (binaryPath) return;
    const copies = async () =>
      samplesOf(await lab.metrics("customers-v2"), "istio_requests_total", { reporter: "destination" }).reduce(
        (sum, { value }) => sum + value,
        0,
      );
    const before = await copies();
    const afterAnother = async () => {
      await tally(1);
      return copies();
    };
    // From then on the rule is in force: the answers have been v1's before, too.
    await expect.poll(afterAnother, patience).toBeGreaterThan(before);
    const sofar = await copies();
    await tally(5);
    await expect.poll(copies, patience).toBeGreaterThanOrEqual(sofar + 5);
  });

  const outside = (path = "/") => httpGet(lab.addressOf("httpbin"), lab.ports.outbound, external, path);

  it("knows nothing outside of the registry until it is told", async () => {
    expect((await outside()).status).toBe(502);
    lab.apply(
      "books",
      istioObject("networking", "ServiceEntry", "books", {
        hosts: [external],
        location: "MESH_EXTERNAL",
        resolution: "STATIC",
        ports: [
          { number: 80, name: "http", protocol: "HTTP" },
          { number: 443, name: "https", protocol: "HTTPS" },
        ],
        endpoints: [{ address: "127.0.0.1", ports: { http: plainPort, https: tlsPort } }],
      }),
    );
    await expect.poll(async () => (await outside()).status, patience).toBe(200);
    expect(JSON.parse((await outside()).body)).toEqual({ host: external, via: "", sni: "" });
  });

  it("leads through the egress gateway, which begins TLS", async () => {
    const egress = `istio-egressgateway.istio-system.svc.cluster.local`;
    const roots = join(lab.directory, "books.pem");
    writeFileSync(roots, certificate.certificate);
    const server = { port: { number: 80, name: "http", protocol: "HTTP" }, hosts: [external] };
    lab.apply(
      "egress-route",
      istioObject("networking", "Gateway", "books-egress", {
        selector: { istio: "egressgateway" },
        servers: [{ ...server, port: { ...server.port, number: lab.ports.gateway } }],
      }),
      istioObject("networking", "VirtualService", "books", {
        hosts: [external],
        gateways: ["books-egress", "mesh"],
        http: [
          { match: [{ gateways: ["mesh"], port: 80 }], route: [{ destination: { host: egress, port: { number: 80 } } }] },
          {
            match: [{ gateways: ["books-egress"], port: lab.ports.gateway }],
            headers: { request: { set: { "x-via": "egress" } } },
            route: [{ destination: { host: external, port: { number: 443 } } }],
          },
        ],
      }),
      istioObject("networking", "DestinationRule", "books", {
        host: external,
        trafficPolicy: {
          portLevelSettings: [
            { port: { number: 443 }, tls: { mode: "SIMPLE", sni: external, caCertificates: roots, subjectAltNames: [external] } },
          ],
        },
      }),
    );
    const seen = async () => {
      const { status, body } = await outside();
      return status === 200 ? JSON.parse(body) : status;
    };
    await expect.poll(seen, patience).toEqual({ host: external, via: "egress", sni: external });
    if (binaryPath) return;
    const hops = async () =>
      samplesOf(await lab.metrics("egress"), "istio_requests_total", { source_workload: "egress", destination_service: external }).reduce(
        (sum, { value }) => sum + value,
        0,
      );
    await expect.poll(hops, patience).toBeGreaterThan(0);
  });

  it("shows in istioctl where a host leads", () => {
    const { status, stdout } = lab.istioctl("proxy-config", "cluster", "httpbin", "--fqdn", `customers.${labDomain}`, "--subset", "v2");
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`customers\\.${labDomain.replaceAll(".", "\\.")} +80 +v2 +outbound +EDS`));
  });
});
