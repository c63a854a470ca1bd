import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server as GrpcServer, type handleUnaryCall, ServerCredentials, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { type ReadinessProbe, readinessProbeSchema } from "../../api/kinds/workload-group.ts";
import { decode } from "../../api/schema/decode.ts";
import { FieldReport } from "../../api/schema/field-report.ts";
import { probeOf, targetsOf } from "./probe.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function check(probe: unknown, timeoutMs = 2000): Promise<string | undefined> {
  const settings = decode(readinessProbeSchema, probe, new FieldReport()) as ReadinessProbe;
  return probeOf(settings, targetsOf(["127.0.0.1"]))!.check(AbortSignal.timeout(timeoutMs));
}

async function listen(server: TcpServer | Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

describe("an HTTP probe", () => {
  it.each([
    [200, undefined],
    [302, undefined],
    [400, "/live answered 400"],
    [503, "/live answered 503"],
  ])("takes status %d for %s", async (code, expected) => {
    const port = await listen(createServer((_, response) => response.writeHead(code, { location: "/" }).end("x")));
    expect(await check({ httpGet: { path: "/live", port } })).toBe(expected);
  });

  it("sends the headers it was given, from an address that is not captured", async () => {
    let seen: { headers: IncomingHttpHeaders; from: string | undefined; url: string | undefined } | undefined;
    const port = await listen(
      createServer((request, response) => {
        seen = { headers: request.headers, from: request.socket.remoteAddress, url: request.url };
        response.end();
      }),
    );
    const httpHeaders = [
      { name: "Host", value: "app.local" },
      { name: "X-A", value: "1" },
      { name: "x-a", value: "2" },
    ];
    expect(await check({ httpGet: { port, httpHeaders } })).toBeUndefined();
    expect(seen).toMatchObject({
      from: "127.0.0.6",
      url: "/",
      headers: { host: "app.local", "x-a": "1, 2", "user-agent": "istio-probe/1.0" },
    });
  });

  it("does not mind who signed the application's certificate", async () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-probe-"));
    closing.push(() => rmSync(directory, { recursive: true }));
    const [key, cert] = [join(directory, "key"), join(directory, "cert")];
    const subject = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=app", "-days", "2"];
    execFileSync("openssl", ["req", ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
    const port = await listen(createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => response.end()));
    expect(await check({ httpGet: { scheme: "HTTPS", port } })).toBeUndefined();
    expect(await check({ httpGet: { port } })).toBeDefined();
  });

  it("says so when nobody answers in time, or nobody is there", async () => {
    const port = await listen(createServer(() => undefined));
    expect(await check({ httpGet: { port } }, 100)).toBe("/ did not answer in time");
    expect(await check({ httpGet: { port: 1 } })).toMatch(/ECONNREFUSED/);
  });
});

describe("a TCP probe", () => {
  it("is content with a connection", async () => {
    const port = await listen(createTcpServer((socket) => socket.on("error", () => undefined).resume()));
    expect(await check({ tcpSocket: { port } })).toBeUndefined();
    expect(await check({ tcpSocket: { port: 1 } })).toMatch(/ECONNREFUSED/);
  });
});

describe("a command as a probe", () => {
  it.each([
    [["true"], undefined],
    [["sh", "-c", "exit 3"], '"sh" ended with 3'],
    [["/does/not/exist"], "spawn /does/not/exist ENOENT"],
  ])("%j: %s", async (command, expected) => {
    expect(await check({ exec: { command } })).toBe(expected);
  });

  it("is ended when it takes too long", async () => {
    expect(await check({ exec: { command: ["sleep", "60"] } }, 100)).toBe('"sleep" did not end in time');
  });

  it("is ended with what it has started", async () => {
    const directory = mkdtempSync(join(tmpdir(), "topsail-exec-"));
    closing.push(() => rmSync(directory, { recursive: true }));
    const file = join(directory, "pid");
    const command = ["sh", "-c", `sleep 60 & echo $! > ${file}.new; mv ${file}.new ${file}; wait`];
    const checked = check({ exec: { command } }, 1000);
    expect(await checked).toBe('"sh" did not end in time');
    const started = Number(readFileSync(file, "utf8"));
    // Killed, and perhaps not waited for yet.
    await expect
      .poll(() => !existsSync(`/proc/${started}`) || /^State:\tZ/m.test(readFileSync(`/proc/${started}/status`, "utf8")))
      .toBe(true);
  });
});

describe("a gRPC probe", () => {
  const path = "/grpc.health.v1.Health/Check";
  const asIs = (bytes: Buffer) => bytes;
  const serve = async (answer: (request: Buffer) => Buffer | number): Promise<number> => {
    const server = new GrpcServer();
    const method = {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    } as const;
    const check: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
      const value = answer(call.request);
      if (typeof value === "number") callback({ code: value, details: "no" });
      else callback(null, value);
    };
    server.addService({ Check: method }, { Check: check });
    closing.push(() => server.forceShutdown());
    return await new Promise((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port))),
    );
  };

  it("takes SERVING alone", async () => {
    const answers = new Map([
      ["good", Buffer.from([8, 1])],
      ["bad", Buffer.from([8, 2])],
    ]);
    // The request is field 1, the service's name.
    const port = await serve((request) => answers.get(request.subarray(2).toString()) ?? status.NOT_FOUND);
    expect(await check({ grpc: { port, service: "good" } })).toBeUndefined();
    expect(await check({ grpc: { port, service: "bad" } })).toBe("the health service says NOT_SERVING");
    expect(await check({ grpc: { port } })).toBe("the health service answered with gRPC status 5");
  });

  it("says what is missing", async () => {
    const port = await serve(() => status.UNIMPLEMENTED);
    expect(await check({ grpc: { port } })).toBe("the application has no health service grpc.health.v1.Health");
    expect(await check({ grpc: { port: 1 } })).toMatch(/ECONNREFUSED/);
    const silent = await listen(createTcpServer((socket) => socket.on("error", () => undefined).resume()));
    expect(await check({ grpc: { port: silent } }, 200)).toBe("the health service did not answer in time");
  });
});
