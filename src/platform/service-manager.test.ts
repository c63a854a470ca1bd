/** Against a real datagram socket; that systemd understands it is shown by test/packages. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ServiceManager } from "./service-manager.ts";

/** Node can't receive datagrams on a Unix socket; prints each as a line of JSON. */
const receiver = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind("\\0" + name[1:] if name.startswith("@") else name)
print("ready", flush=True)
while True: print(json.dumps(s.recv(65536).decode()), flush=True)`;

describe.each(["path", "abstract name"])("ServiceManager by a %s", (kind) => {
  let directory: string;
  let address: string;
  let child: ChildProcess;
  let received: string[];

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "notify-"));
    address = kind === "path" ? join(directory, "socket") : `@topsail-test-${process.pid}-${Math.random()}`;
    received = [];
    child = spawn("python3", ["-c", receiver, address], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise<void>((resolve) => {
      let rest = "";
      child.stdout!.setEncoding("utf8").on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          if (line === "ready") resolve();
          else received.push(JSON.parse(line) as string);
        }
      });
    });
  });

  afterEach(() => {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  });

  it("tells what is new, that it is ready, and that it stops", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: address })!;
    manager.status("Waiting");
    manager.status("Waiting");
    manager.ready();
    manager.stopping();
    await expect.poll(() => received).toEqual(["STATUS=Waiting", "READY=1", "STOPPING=1"]);
  });

  it("asks for more time while it starts, and feeds the watchdog once it is ready, as long as checks succeed", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "60000", WATCHDOG_PID: String(process.pid) })!;
    let check = () => Promise.resolve();
    let failures = 0;
    manager.watch(() => check());
    await expect.poll(() => received.filter((message) => message === "EXTEND_TIMEOUT_USEC=60000").length).toBeGreaterThan(1);
    manager.ready();
    await expect.poll(() => received.filter((message) => message === "WATCHDOG=1").length).toBeGreaterThan(1);
    check = () => {
      failures++;
      return Promise.reject(new Error("no answer"));
    };
    await expect.poll(() => failures).toBeGreaterThan(0);
    const before = received.length;
    await expect.poll(() => failures).toBeGreaterThan(3);
    expect(received.length - before).toBeLessThanOrEqual(1); // one may have been under way
  });

  it("feeds the watchdog while it stops, when there is nobody left to be asked", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "15000" })!;
    manager.ready();
    manager.watch(() => new Promise(() => undefined));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(received).toEqual(["READY=1"]);
    manager.stopping();
    await expect.poll(() => received.filter((message) => message === "WATCHDOG=1").length).toBeGreaterThan(1);
  });

  it("says nothing more when the service is another process's", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "15000" })!;
    manager.ready();
    manager.watch(async () => undefined);
    await expect.poll(() => received).toContain("WATCHDOG=1");
    manager.handOver(4711);
    manager.status("Draining");
    manager.stopping();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(received.slice(received.indexOf("MAINPID=4711"))).toEqual(["MAINPID=4711"]);
  });

  it("does not ask a second time while an answer is still awaited", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "15000" })!;
    let asked = 0;
    const hanging = Promise.withResolvers<void>();
    manager.watch(() => {
      asked++;
      return hanging.promise;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect({ asked, received }).toEqual({ asked: 1, received: [] });
    hanging.resolve();
    await expect.poll(() => received.length).toBeGreaterThan(0);
  });
});

describe("ServiceManager", () => {
  it("is not there when nobody wants to hear", () => {
    expect(ServiceManager.connect({})).toBeUndefined();
  });

  it("lets another process's watchdog be", async () => {
    using manager = ServiceManager.connect({ NOTIFY_SOCKET: "/nobody/listens", WATCHDOG_USEC: "1000", WATCHDOG_PID: "1" })!;
    let asked = false;
    manager.watch(async () => {
      asked = true;
    });
    manager.ready();
    expect(asked).toBe(false);
  });

  it.each(["relative/path", `/${"x".repeat(200)}`])("refuses the address %s", (address) => {
    expect(() => ServiceManager.connect({ NOTIFY_SOCKET: address })).toThrow("NOTIFY_SOCKET");
  });
});
