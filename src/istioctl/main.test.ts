import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "./main.ts";

async function istioctl(args: readonly string[], stdin = ""): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await run(args, {
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    readStdin: async () => new TextEncoder().encode(stdin),
  });
  return { code, out: out.join(""), err: err.join("") };
}

const good =
  "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]\n";
const bad = good.replace("number: 80", "number: 0");
const warned = good.replace("protocol: HTTP }", "protocol: TCP }, tls: { mode: PASSTHROUGH, privateKey: k }").replace("TCP", "TLS");

describe("istioctl validate", () => {
  let directory: string;
  const path = (name: string) => join(directory, name);
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-validate-"));
    mkdirSync(path("tree/sub"), { recursive: true });
    writeFileSync(path("good.yaml"), good);
    writeFileSync(path("bad.yaml"), bad);
    writeFileSync(path("warned.yaml"), warned);
    writeFileSync(path("tree/a.yaml"), good);
    writeFileSync(path("tree/sub/b.json"), JSON.stringify({ apiVersion: "example.com/v1", kind: "Other", metadata: { name: "x" } }));
    writeFileSync(path("tree/c.txt"), "nonsense");
    writeFileSync(path("binary.yaml"), Buffer.from([0, 1, 2]));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it("says that a file is valid", async () => {
    expect(await istioctl(["validate", "-f", path("good.yaml")])).toEqual({ code: 0, out: "", err: `"${path("good.yaml")}" is valid\n` });
    expect(await istioctl(["v", "-f", path("good.yaml")])).toMatchObject({ code: 0 });
  });

  it("says what is wrong, where, and fails", async () => {
    expect(await istioctl(["validate", "-f", path("bad.yaml")])).toEqual({
      code: 1,
      out: "",
      err: `Error: 1 error occurred:\n\t* Gateway/default/g: spec.servers[0].port.number: port 0 is out of range: must be between 1 and 65535 (${path("bad.yaml")}:5)\n\n`,
    });
  });

  it("tells warnings, and goes on", async () => {
    expect(await istioctl(["validate", "-f", path("warned.yaml"), "-n", "prod"])).toEqual({
      code: 0,
      out: "",
      err: `"${path("warned.yaml")}" has warnings: \n\t* Gateway/prod/g: spec.servers[0].tls: PASSTHROUGH terminates no TLS: the certificates are of no use (${path("warned.yaml")}:5)\n\n`,
    });
  });

  it("walks a directory, and passes kinds that aren't Istio's", async () => {
    expect(await istioctl(["validate", "-f", path("tree")])).toMatchObject({
      code: 0,
      err: `"${path("tree/a.yaml")}" is valid\n"${path("tree/sub/b.json")}" is valid\n`,
    });
  });

  it("reads standard input", async () => {
    expect(await istioctl(["validate", "-f", "-"], good)).toEqual({ code: 0, out: "", err: "validation succeed\n" });
    expect((await istioctl(["validate", "-f", "-"], bad)).err).toContain("(line 5)");
  });

  it("takes several files, and tells the errors of all", async () => {
    const { code, err } = await istioctl([
      "validate",
      "-f",
      `${path("bad.yaml")},${path("good.yaml")}`,
      "--filename",
      path("missing.yaml"),
      "-f",
      path("binary.yaml"),
    ]);
    expect(code).toBe(1);
    expect(err).toContain("Error: 3 errors occurred:");
    expect(err).toContain(`* cannot stat file "${path("missing.yaml")}": ENOENT`);
    expect(err).toContain("is not a text file: byte 0 is zero");
    expect(err).not.toContain("is valid");
  });

  it("asks for a file", async () => {
    expect(await istioctl(["validate"])).toMatchObject({
      code: 1,
      err: expect.stringContaining("you must specify resources by --filename"),
    });
  });

  it("checks the names of a Service's ports, but not in Istio's own namespace", async () => {
    const service = (ports: string, namespace = "default") =>
      `apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: ${namespace} }\nspec: { ports: ${ports} }\n`;
    const ports =
      "[{ port: 1 }, { port: 2, name: foo }, { port: 3, name: http-web }, { port: 4, appProtocol: FOO }, { port: 5, appProtocol: grpc }, { port: 53, protocol: UDP }, { port: 6, name: grpc-web-x }]";
    const { code, err } = await istioctl(["validate", "-f", "-"], service(ports));
    expect(code).toBe(1);
    expect([...err.matchAll(/spec\.ports\[(\d)\]/g)].map((match) => match[1])).toEqual(["0", "1", "3"]);
    expect(await istioctl(["validate", "-f", "-"], service(ports, "istio-system"))).toMatchObject({ code: 0 });
    expect(await istioctl(["-i", "default", "validate", "-f", "-"], service(ports))).toMatchObject({ code: 0 });
    expect(await istioctl(["validate", "-f", "-"], "apiVersion: v1\nkind: Service\nmetadata: { name: s }\n")).toMatchObject({ code: 0 });
  });

  it("remarks on a Deployment without the labels that telemetry goes by", async () => {
    const deployment = (labels: string) =>
      `apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: d }\nspec: { template: { metadata: { labels: ${labels} } } }\n`;
    expect((await istioctl(["validate", "-f", "-"], deployment("{ app: x }"))).err).toBe(
      "Deployment/default/d has no label version: telemetry goes by them\nvalidation succeed\n",
    );
    expect((await istioctl(["validate", "-f", "-"], deployment("{ app: x, version: v1 }"))).err).toBe("validation succeed\n");
  });
});

describe("istioctl version", () => {
  it("tells the client's version in Istio's shapes", async () => {
    expect((await istioctl(["version"])).out).toMatch(/^client version: \S+\n$/);
    expect((await istioctl(["version", "--short=false"])).out).toMatch(/^client version: version\.BuildInfo\{Version:"/);
    expect(JSON.parse((await istioctl(["version", "-o", "json"])).out)).toMatchObject({
      clientVersion: { version: expect.any(String), revision: expect.any(String) },
    });
    expect((await istioctl(["version", "-o", "yaml"])).out).toMatch(/^clientVersion:\n {2}golang_version: /);
    expect(await istioctl(["version", "-o", "xml"])).toMatchObject({ code: 1, err: "Error: --output must be 'yaml' or 'json'\n" });
  });
});

describe("istioctl", () => {
  it("answers a wrong command line with exit code 64, and help with 0", async () => {
    expect(await istioctl(["frobnicate"])).toMatchObject({ code: 64, err: "Error: unknown command 'frobnicate'\n" });
    expect(await istioctl(["version", "--wrong"])).toMatchObject({ code: 64 });
    expect(await istioctl(["--help"])).toMatchObject({ code: 0, out: expect.stringContaining("validate|v") });
    expect(await istioctl(["validate", "--help"])).toMatchObject({ code: 0, out: expect.stringContaining("--filename") });
  });
});
