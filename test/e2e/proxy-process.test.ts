/** The proxy as a process: exit codes, signals, and what its clients notice of its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

const stacks: AsyncDisposableStack[] = [];
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.disposeAsync();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Fixture {
  readonly child: ChildProcess;
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly output: () => string;
  readonly listener: number;
  readonly admin: number;
  readonly log: string;
  /** Lets the upstream answer what waits. */
  readonly answer: () => void;
  /** Resolves when a request has reached the upstream. */
  readonly arrived: () => Promise<void>;
}

function run(args: readonly string[], stack: AsyncDisposableStack) {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, "envoy", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString();
  });
  child.stderr.on("data", (bytes: Buffer) => {
    output += bytes.toString();
  });
  const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal }));
  });
  stack.defer(async () => {
    child.kill("SIGKILL");
    await exit;
  });
  return { child, exit, output: () => output };
}

async function start(change: (bootstrap: string) => string = (text) => text): Promise<Fixture> {
  const stack = new AsyncDisposableStack();
  stacks.push(stack);
  const directory = mkdtempSync(path.join(tmpdir(), "topsail-process-"));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const waiting: (() => void)[] = [];
  const arrivals: (() => void)[] = [];
  const upstream = http.createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    if (request.url === "/slow") {
      waiting.push(() => response.end("slow"));
      for (const arrived of arrivals.splice(0)) arrived();
    } else response.end("quick");
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  stack.defer(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const [listener, admin, log] = [await freePort(), await freePort(), path.join(directory, "access.log")];
  const file = path.join(directory, "bootstrap.yaml");
  writeFileSync(
    file,
    change(`
admin: {address: {socket_address: {address: 127.0.0.1, port_value: ${admin}}}}
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: ${listener}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          access_log:
          - {name: file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: ${log}, format: "%REQ(:PATH)%\\n"}}
          http_filters: [{name: envoy.filters.http.router}]
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: up}}]}]}
  clusters:
  - name: up
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ${(upstream.address() as AddressInfo).port}}}}}]}]}
`),
  );
  const process = run(["-c", file, "--concurrency", "1", "--file-flush-interval-msec", "20"], stack);
  return {
    ...process,
    listener,
    admin,
    log,
    answer: () => {
      for (const answer of waiting.splice(0)) answer();
    },
    arrived: () => (waiting.length > 0 ? Promise.resolve() : new Promise((resolve) => arrivals.push(resolve))),
  };
}

function call(
  port: number,
  target: string,
  options: http.RequestOptions = {},
): Promise<{ status: number; body: string; headers: http.IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: "127.0.0.1", path: target, agent: false, ...options }, (response) => {
      let body = "";
      response.on("data", (bytes: Buffer) => {
        body += bytes.toString();
      });
      response.on("end", () => resolve({ status: response.statusCode!, body, headers: response.headers }));
    });
    request.on("error", reject);
    request.end();
  });
}

async function live({ admin, child, output }: Fixture): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the proxy ended with ${child.exitCode}: ${output()}`);
    const status = await call(admin, "/ready").then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

describe("The proxy as a process", () => {
  it("ends with 0 on SIGTERM when nothing is open", async () => {
    const proxy = await start();
    await live(proxy);
    expect((await call(proxy.listener, "/quick")).body).toBe("quick");
    proxy.child.kill("SIGTERM");
    expect(await proxy.exit).toEqual({ code: 0, signal: null });
    expect(readFileSync(proxy.log, "utf8")).toBe("/quick\n");
  });

  it("lets a request end on SIGTERM, refuses new connections, and fails readiness meanwhile", async () => {
    const proxy = await start();
    await live(proxy);
    const slow = call(proxy.listener, "/slow", { headers: { connection: "keep-alive" } });
    await proxy.arrived();
    proxy.child.kill("SIGTERM");
    while ((await call(proxy.admin, "/ready")).body !== "DRAINING\n") await new Promise((resolve) => setTimeout(resolve, 10));
    // The workers close their listeners each in its own time.
    const another = () =>
      call(proxy.listener, "/quick").then(
        ({ status }) => status,
        (error: Error) => error.message,
      );
    await expect.poll(another, { timeout: 10_000 }).toMatch(/ECONNREFUSED/);
    proxy.answer();
    expect(await slow).toMatchObject({ status: 200, body: "slow", headers: { connection: "close" } });
    expect(await proxy.exit).toEqual({ code: 0, signal: null });
  });

  it("ends at once on a second SIGTERM", async () => {
    const proxy = await start();
    await live(proxy);
    const slow = call(proxy.listener, "/slow").catch((error: Error) => error.message);
    await proxy.arrived();
    proxy.child.kill("SIGTERM");
    while ((await call(proxy.admin, "/ready")).body !== "DRAINING\n") await new Promise((resolve) => setTimeout(resolve, 10));
    proxy.child.kill("SIGTERM");
    expect(await proxy.exit).toEqual({ code: 0, signal: null });
    expect(await slow).toMatch(/socket hang up|ECONNRESET/);
  });

  it("opens its access log anew on SIGUSR1, ignores SIGHUP, and ends with 0 on /quitquitquit", async () => {
    const proxy = await start();
    await live(proxy);
    await call(proxy.listener, "/before");
    while (readFileSync(proxy.log, "utf8") !== "/before\n") await new Promise((resolve) => setTimeout(resolve, 10));
    renameSync(proxy.log, `${proxy.log}.1`);
    proxy.child.kill("SIGHUP");
    proxy.child.kill("SIGUSR1");
    while (!existsSync(proxy.log)) await new Promise((resolve) => setTimeout(resolve, 10));
    await call(proxy.listener, "/after");
    expect((await call(proxy.admin, "/quitquitquit", { method: "POST" })).body).toBe("OK\n");
    expect(await proxy.exit).toEqual({ code: 0, signal: null });
    expect([readFileSync(`${proxy.log}.1`, "utf8"), readFileSync(proxy.log, "utf8")]).toEqual(["/before\n", "/after\n"]);
  });

  it("ends with 1 and says what is wrong with a configuration", async () => {
    const proxy = await start((text) => text.replace("name: up\n", "name: up\n    nope: 1\n"));
    expect((await proxy.exit).code).toBe(1);
    expect(proxy.output()).toMatch(/error initializing configuration '.*': .*no such field: 'nope'.*bootstrap\.yaml:19/);
  });

  it("ends with 1 when a port is taken", async () => {
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
    const { port } = blocker.address() as AddressInfo;
    const proxy = await start((text) =>
      text.replace(
        /name: in\n {4}address: \{socket_address: \{address: 127\.0\.0\.1, port_value: \d+/,
        `name: in\n    address: {socket_address: {address: 127.0.0.1, port_value: ${port}`,
      ),
    );
    expect((await proxy.exit).code).toBe(1);
    blocker.close();
    expect(proxy.output()).toMatch(/Address already in use/);
  });

  it("validates without binding, and prints its version and its options", async () => {
    const stack = new AsyncDisposableStack();
    stacks.push(stack);
    const validated = run(["--mode", "validate", "--config-yaml", "static_resources: {}"], stack);
    expect((await validated.exit).code).toBe(0);
    expect(validated.output()).toBe("configuration '' OK\n");
    const version = run(["--version"], stack);
    expect((await version.exit).code).toBe(0);
    expect(version.output()).toMatch(/^\nenvoy {2}version: \w+\/1\.40\.0\/Clean\/RELEASE\/\w+\n\n$/);
    const wrong = run(["--no-such-option"], stack);
    expect((await wrong.exit).code).toBe(1);
    expect(wrong.output()).toMatch(/^error: .*--no-such-option/);
  });
});
