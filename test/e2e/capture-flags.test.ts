/** What `pilot-agent istio-iptables` does besides setting rules: leaves open connections alone, sees whether rules work, works elsewhere, says only. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CaptureMachine, hasTool } from "../support/capture-machine.ts";
import { namespacesProblem } from "../support/network-namespace.ts";
import { binary } from "../support/topsail.ts";

const problem = namespacesProblem();
if (problem !== undefined) process.stderr.write(`skipped: capture flags: ${problem}\n`);

const everything = ["--istio-inbound-ports", "*", "--istio-service-cidr", "*", "--redirect-dns", "--capture-all-dns"];
const tproxy = ["--istio-inbound-interception-mode", "TPROXY"];

/** On the machine: talks to its caller before and after there are rules. The command sets them. */
const session = `
const { createServer } = require("node:net");
const { execFileSync } = require("node:child_process");
const [, speaksFirst, ...command] = process.argv;
createServer((socket) => {
  socket.on("error", (error) => { console.log("lost: " + error.message); process.exit(1); });
  socket.write("before ");
  socket.once("data", () => {
    execFileSync(command[0], command.slice(1), { stdio: "ignore" });
    if (speaksFirst === "machine") socket.write("rules ");
    else console.log("rules");
    socket.on("data", () => socket.end("after"));
  });
}).listen(9000, "10.78.0.2", () => console.log("listening"));
`;
/** Elsewhere: answers to everything that it hears, and by itself when it is told to. */
const caller = `
const socket = require("node:net").connect(9000, "10.78.0.2");
socket.on("data", (text) => { process.stdout.write(text); socket.write("heard"); });
socket.on("end", () => process.exit(0)).on("error", (error) => { console.log("lost: " + error.message); process.exit(1); });
process.stdin.on("data", () => socket.write("hello"));
setTimeout(() => { console.log("silence"); process.exit(1); }, 8000);
`;

describe.skipIf(problem !== undefined)("istio-iptables", { timeout: 30_000 }, () => {
  let machine: CaptureMachine;
  beforeEach(async () => {
    machine = await CaptureMachine.start();
  });
  const children: ChildProcess[] = [];
  const start = (command: readonly string[]) => {
    const child = spawn("nsenter", command, { stdio: ["pipe", "pipe", "ignore"] });
    children.push(child);
    return child;
  };
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    await machine[Symbol.asyncDispose]();
  });

  const attempt = (...flags: string[]) =>
    spawnSync("nsenter", machine.inside(binary, "pilot-agent", "istio-iptables", ...flags), { encoding: "utf8", timeout: 25_000 });
  const node = (script: string, ...args: string[]) => [process.execPath, "-e", script, "--", ...args];

  it.each([
    ["redirect", "machine", []],
    ["redirect", "caller", []],
    ["nftables", "machine", ["--native-nftables"]],
    ["TPROXY", "machine", tproxy],
    ["TPROXY", "caller", tproxy],
  ])("leaves a connection alone that was open before: %s, first to speak is the %s", async (_, first, flags) => {
    if (flags.includes("--native-nftables") && !hasTool("nft")) return;
    await using elsewhere = await CaptureMachine.start();
    machine.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", String(elsewhere.pid)]);
    for (const [at, address] of [
      [machine, "10.78.0.2/24"],
      [elsewhere, "10.78.0.3/24"],
    ] as const) {
      at.run(["ip", "address", "add", address, "dev", "eth0"]);
      at.run(["ip", "link", "set", "eth0", "up"]);
    }
    const command = [binary, "pilot-agent", "istio-iptables", ...everything, ...flags];
    const server = start(machine.inside(...node(session, first, ...command)));
    await once(server.stdout, "data");
    const client = start(elsewhere.inside(...node(caller)));
    let heard = "";
    client.stdout.on("data", (text) => {
      heard += text;
    });
    if (first === "caller") server.stdout.once("data", () => client.stdin.write("now"));
    await once(client, "close");
    expect(heard).toBe(first === "machine" ? "before rules after" : "before after");
    // And there were rules.
    expect(flags.includes("--native-nftables") ? machine.run(["nft", "list", "tables"]) : machine.state()).toMatch(/istio/i);
  });

  it("sees that rules work", () => {
    const { status, stderr } = attempt(...everything, "--run-validation");
    expect({ status, stderr }).toMatchObject({ status: 0, stderr: expect.stringContaining("rules are in force") });
  });

  it("sees it for both families, by the proxy's user and no other", () => {
    machine.capture(...everything, "--dual-stack", "--proxy-uid", "1234");
    const see = (...flags: string[]) =>
      attempt(...everything, "--skip-rule-apply", "--run-validation", "--probe-timeout", "600ms", ...flags);
    expect(see("--dual-stack", "--proxy-uid", "1234").status).toBe(0);
    expect(see("--proxy-uid", "1235")).toMatchObject({ status: 126 });
    machine.run(["sh", "-c", "for tool in ip6tables-nft ip6tables-legacy; do $tool -t nat -F ISTIO_OUTPUT || true; done 2> /dev/null"]);
    const { status, stderr } = see("--dual-stack", "--proxy-uid", "1234");
    expect(stderr).toContain("error: rules are not in force: what the proxy's user sends to ::6 port 15002 is not redirected\n");
    expect(status).toBe(126);
  });

  it("ends with 126 when there are none, and waits for those that come", async () => {
    const { status, stderr } = attempt("--skip-rule-apply", "--run-validation", "--probe-timeout", "300ms");
    expect(stderr).toBe("error: rules are not in force: what the proxy's user sends to 127.0.0.6 port 15002 is not redirected\n");
    expect(status).toBe(126);
    const waiting = start(
      machine.inside(binary, "pilot-agent", "istio-iptables", "--skip-rule-apply", "--run-validation", "--probe-timeout", "20s"),
    );
    const ended = once(waiting, "exit");
    machine.capture(...everything);
    expect(await ended).toEqual([0, null]);
  });

  it("sees it too while the proxy runs, which has the port then", async () => {
    const proxy = start(machine.inside(...node('require("node:net").createServer().listen(15006, () => console.log("listening"))')));
    await once(proxy.stdout, "data");
    expect(attempt("--skip-rule-apply", "--run-validation", "--probe-timeout", "300ms").status).toBe(126);
    expect(attempt(...everything, "--run-validation").status).toBe(0);
  });

  it("works in another network namespace, and takes back there what it did", () => {
    const at = (...flags: string[]) =>
      spawnSync("nsenter", ["--target", String(machine.pid), "--mount", "--", binary, "pilot-agent", "istio-iptables", ...flags], {
        encoding: "utf8",
      });
    const before = machine.state();
    const there = ["--network-namespace", `/proc/${machine.pid}/ns/net`];
    expect(at(...there, ...everything, ...tproxy, "--run-validation")).toMatchObject({ status: 0 });
    const captured = machine.state();
    expect(captured).toContain("-j TPROXY --on-port 15006");
    expect(captured).toContain("lookup 133");
    expect(at(...there, ...everything, "--istio-inbound-ports", "http")).toMatchObject({
      status: 1,
      stderr: 'error: --istio-inbound-ports: "http" is no port\n',
    });
    expect(at(...there, "--cleanup-only").status).toBe(0);
    expect(machine.state()).toBe(before);
    expect(at("--network-namespace", "/etc/hostname")).toMatchObject({
      status: 1,
      stderr: "error: --network-namespace: /etc/hostname is no namespace\n",
    });
    expect(at("--network-namespace", "/run/netns/none").stderr).toMatch(/^error: --network-namespace: ENOENT/);
    expect(at("--cni-mode").stderr).toBe("error: --cni-mode: needs --network-namespace\n");
  });

  it("does not wait for the machine's lock in CNI mode", async () => {
    if (!hasTool("iptables-legacy")) {
      process.stderr.write("skipped: iptables-legacy is not there\n");
      return;
    }
    const holder = start(machine.inside("flock", "/run/xtables.lock", "sh", "-c", "echo locked; cat"));
    await once(holder.stdout, "data");
    const legacy = [...everything, "--force-iptables-binary", "legacy"];
    expect(attempt(...legacy, "--cni-mode", "--network-namespace", `/proc/${machine.pid}/ns/net`).status).toBe(0);
    expect(machine.run(["iptables-legacy-save"])).toContain("-A ISTIO_REDIRECT");
    holder.stdin.end();
    await once(holder, "exit");
  });

  it("says what it would take back, and leaves it", () => {
    machine.capture(...everything, ...tproxy);
    const before = machine.state();
    const said = machine.capture("--cleanup-only", "--dry-run");
    expect(said).toContain("-D OUTPUT -j ISTIO_OUTPUT");
    expect(said).toContain("ip -4 rule delete fwmark 1337 lookup 133");
    expect(machine.state()).toBe(before);
    // As scripts for Istio of old do it.
    const clean = (...flags: string[]) => machine.run([binary, "pilot-agent", "istio-clean-iptables", ...flags]);
    expect(clean("-n")).toBe(said);
    expect(machine.state()).toBe(before);
    clean("-p", "15001", "--istio-service-cidr", "*", "--redirect-dns");
    expect(machine.state()).not.toContain("ISTIO_");
  });

  it.each([
    [["--probe-timeout", "soon"], '--probe-timeout: "soon" is no duration from 1ms to 10m'],
    [["--run-validation=maybe"], '--run-validation: "maybe" is neither true nor false'],
  ])("refuses %j", (flags, message) => {
    expect(attempt(...flags)).toMatchObject({ status: 1, stderr: `error: ${message}\n` });
  });
});
