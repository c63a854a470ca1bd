/** The product's main job as a newcomer meets it. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { meshNodes } from "../../src/quickstart/mesh-agent.ts";
import { type Answer, askHttp } from "../support/http-ask.ts";
import { callApi, readKubeconfig } from "../support/kube-api.ts";
import { freePortRow, isFree } from "../support/ports.ts";
import { TopsailProcess } from "../support/topsail.ts";

let directory: string;
let first: number;
let quickstart: TopsailProcess;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "quickstart-test-"));
  first = await freePortRow(12);
  quickstart = new TopsailProcess(["quickstart", "--ports-from", String(first), "--dir", join(directory, "config")]);
  await quickstart.printed("Ctrl-C stops everything.");
});

afterAll(async () => {
  await quickstart?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

function get(path: string, host = `localhost:${first}`): Promise<Answer> {
  return askHttp("127.0.0.1", first, { line: `GET ${path}`, host });
}

const addressOf = (workload: string) => meshNodes().find(({ name }) => name === workload)!.address;

function edit(name: string, change: (text: string) => string): void {
  const file = join(directory, "config", name);
  const before = readFileSync(file, "utf8");
  const after = change(before);
  if (after === before) throw new Error(`the edit of ${name} changed nothing`);
  writeFileSync(file, after);
}

const setWeight = (subset: string, weight: number) => (text: string) =>
  text.replace(new RegExp(`(subset: ${subset}\\n(?:.*\\n){2,3}?\\s+weight: )\\d+`), `$1${weight}`);

describe("quickstart", () => {
  it("shows the book page with black stars", async () => {
    const { status, headers, body } = await get("/productpage");
    expect(status).toBe(200);
    expect(headers.server).toBe("istio-envoy");
    expect(body).toContain("The Comedy of Errors");
    expect(body).toContain("★★★★★");
    expect(body).toContain("reviews-v2");
    expect(body).toContain("color:#222");
  });

  it("serves kubectl the configuration of its files", async () => {
    const config = readKubeconfig(join(directory, "config", "kubeconfig"));
    const { code, body } = await callApi(config, "GET", "/apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews");
    expect([code, body.kind]).toEqual([200, "VirtualService"]);
  });

  it("answers httpbin by host, with what a gateway adds", async () => {
    const { status, body } = await get("/headers", "httpbin.localhost");
    expect(status).toBe(200);
    const { headers } = JSON.parse(body) as { headers: Record<string, string> };
    expect(headers["X-Forwarded-Proto"]).toBe("http");
    expect(headers["X-Request-Id"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.Host).toBe("httpbin.localhost");
  });

  it("shows customers by way of web-frontend", async () => {
    const { status, body } = await get("/", "web-frontend.localhost");
    expect(status).toBe(200);
    expect(body).toContain("<th>NAME</th>");
    expect(body).not.toContain("<th>CITY</th>");
  });

  it("calls from sidecar to sidecar over mutual TLS, each workload with an identity of its own", async () => {
    const { body } = await askHttp(addressOf("web-frontend-v1"), first + 1, {
      line: "GET /headers",
      host: "httpbin.default.svc.cluster.local:8000",
    });
    const { headers } = JSON.parse(body) as { headers: Record<string, string> };
    expect(headers["X-Forwarded-Client-Cert"]).toContain("By=spiffe://cluster.local/ns/default/sa/httpbin;");
    expect(headers["X-Forwarded-Client-Cert"]).toContain("URI=spiffe://cluster.local/ns/default/sa/web-frontend");
  });

  it("refuses plaintext from outside the mesh when a PeerAuthentication says so", async () => {
    const outside = () =>
      askHttp(addressOf("customers-v1"), first + 8, { host: "customers" }).then(
        ({ status }) => status,
        (error: NodeJS.ErrnoException) => error.code,
      );
    expect(await outside()).toBe(200);
    const file = join(directory, "config", "strict.yaml");
    writeFileSync(
      file,
      "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}",
    );
    await expect.poll(outside, { timeout: 5_000 }).toBe("ECONNRESET");
    expect((await get("/", "web-frontend.localhost")).status).toBe(200);
    rmSync(file);
    await expect.poll(outside, { timeout: 5_000 }).toBe(200);
  });

  it("moves traffic within a second when a VirtualService is edited", async () => {
    edit("reviews.yaml", (text) => setWeight("v2", 0)(setWeight("v3", 100)(text)));
    await expect.poll(async () => (await get("/productpage")).body.includes("color:#c0262d"), { timeout: 1_000, interval: 25 }).toBe(true);
    for (let round = 0; round < 10; round++) expect((await get("/productpage")).body).toContain("reviews-v3");
  });

  it("splits by weight", async () => {
    edit("customers.yaml", (text) => setWeight("v1", 50)(setWeight("v2", 50)(text)));
    const answers = async () => {
      const seen = new Set<boolean>();
      for (let round = 0; round < 40; round++) seen.add((await get("/", "web-frontend.localhost")).body.includes("<th>CITY</th>"));
      return seen.size;
    };
    await expect.poll(answers, { timeout: 5_000 }).toBe(2);
  });

  it("says what is wrong in a file, and leaves in force what was", async () => {
    edit("httpbin.yaml", (text) => text.replace("hosts:", "hostss:"));
    await quickstart.printed("httpbin.yaml:");
    expect(quickstart.stderr).toContain("hostss");
    expect((await get("/headers", "httpbin.localhost")).status).toBe(200);
  });

  it("ends on Ctrl-C and leaves nothing behind", async () => {
    const scratch = () => readdirSync(tmpdir()).filter((name) => name.startsWith("topsail-quickstart-"));
    expect(scratch().length).toBeGreaterThan(0);
    const before = scratch().length;
    quickstart.child.kill("SIGINT");
    expect(await quickstart.exited).toBe(0);
    expect(scratch().length).toBe(before - 1);
    for (let port = first; port < first + 11; port++) expect(await isFree(port)).toBe(true);
  });
});

describe("quickstart, when a port is taken", () => {
  it("says which in one line, with the way out", async () => {
    const taken = await freePortRow(12);
    const other = new TopsailProcess(["quickstart", "--ports-from", String(taken), "--dir", join(directory, "one")]);
    await other.printed("Ctrl-C stops everything.");
    const second = new TopsailProcess(["quickstart", "--ports-from", String(taken), "--dir", join(directory, "two")]);
    expect(await second.exited).toBe(1);
    expect(second.stderr).toMatch(/^error: .*\d+.*\nhint: .*--ports-from/m);
    await other[Symbol.asyncDispose]();
  });
});
