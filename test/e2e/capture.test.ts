/** `pilot-agent istio-iptables` against the kernel: set, replaced and taken back, whatever was there and however it ended before. */
import { spawn, spawnSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CaptureMachine, hasTool as has } from "../support/capture-machine.ts";
import { namespacesProblem } from "../support/network-namespace.ts";
import { binary } from "../support/topsail.ts";

const problem = namespacesProblem();
if (problem !== undefined) process.stderr.write(`skipped: capture rules: ${problem}\n`);

const foreign = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -p tcp --dport 8000 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A INPUT -p tcp --dport 23 -j DROP
COMMIT
*mangle
-A PREROUTING -p udp --dport 9 -j MARK --set-mark 7
COMMIT
`;
const everything = ["--istio-inbound-ports", "*", "--istio-service-cidr", "*", "--redirect-dns", "--capture-all-dns"];
const tproxy = [...everything, "--istio-inbound-interception-mode", "TPROXY", "--istio-exclude-interfaces", "eth9,eth9", "--drop-invalid"];

describe.skipIf(problem !== undefined)("capture rules", () => {
  let machine: CaptureMachine;
  beforeEach(async () => {
    machine = await CaptureMachine.start();
  });
  afterEach(() => machine[Symbol.asyncDispose]());

  const inside = (...command: string[]) => machine.inside(...command);
  const run = (command: string[], input = "") => machine.run(command, input);
  const capture = (...flags: string[]) => machine.capture(...flags);
  const state = () => machine.state();

  it.each(["nft", "legacy"])("leave no trace, and what others have as it was: %s", (variant) => {
    if (!has(`iptables-${variant}`)) {
      process.stderr.write(`skipped: iptables-${variant} is not there\n`);
      return;
    }
    run([`iptables-${variant}-restore`], foreign);
    const before = state();
    capture(...tproxy, "--dual-stack");
    const captured = state();
    expect(captured).toContain("-j TPROXY --on-port 15006");
    expect(captured).toContain("lookup 133");
    expect(captured).toContain("-A PREROUTING -i eth9 -j RETURN");
    // Other settings, or none at all, undo it as well.
    run([binary, "pilot-agent", "istio-clean-iptables"]);
    expect(state()).toBe(before);
  });

  it("are the same after they were set again", () => {
    capture(...tproxy);
    const once = state();
    capture(...tproxy);
    expect(state()).toBe(once);
  });

  it("give way to new ones, whatever the old ones were", () => {
    capture(...everything);
    const wanted = state();
    capture(...tproxy, "--istio-inbound-tproxy-mark", "77", "--istio-inbound-tproxy-route-table", "78");
    capture(...everything);
    expect(state()).toBe(wanted);
  });

  it("can be nftables' own, which replace and are replaced", () => {
    if (!has("nft")) {
      process.stderr.write("skipped: nft is not there\n");
      return;
    }
    const before = state();
    capture(...tproxy, "--native-nftables", "--dual-stack");
    expect(run(["nft", "list", "tables"])).toContain("istio-proxy-mangle");
    capture(...everything);
    expect(run(["nft", "list", "tables"])).not.toContain("istio-proxy");
    const wanted = state();
    expect(wanted).toContain("-j ISTIO_REDIRECT");
    capture(...everything, "--native-nftables");
    expect(state()).not.toContain("ISTIO_REDIRECT");
    run([binary, "pilot-agent", "istio-clean-iptables"]);
    expect(run(["nft", "list", "tables"])).not.toContain("istio-proxy");
    expect(state()).toBe(before);
  });

  it("can be taken back, and set, after a run that was killed anywhere", async () => {
    const before = state();
    capture(...tproxy);
    const wanted = state();
    for (const delayMs of [60, 90, 120, 150, 180, 220]) {
      const child = spawn("nsenter", inside(binary, "pilot-agent", "istio-iptables", ...(delayMs % 20 === 0 ? everything : tproxy)), {
        stdio: "ignore",
        detached: true,
      });
      const exited = new Promise((resolve) => child.once("exit", resolve));
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {
        // It was quicker.
      }
      await exited;
      capture(...tproxy);
      expect(state()).toBe(wanted);
    }
    run([binary, "pilot-agent", "istio-clean-iptables"]);
    expect(state()).toBe(before);
  });

  it.each([[], ["--native-nftables"]])("are of the families that the machine has, in which the proxy listens %j", (...flags) => {
    if (!has("nft")) {
      process.stderr.write("skipped: nft is not there\n");
      return;
    }
    const link = "ip link add eth0 type veth peer name peer && ip link set peer up && ip link set eth0 up";
    run(["sh", "-c", `${link} && ip -6 address add fd00::5/64 dev eth0 nodad`]);
    const rules = () => state() + run(["nft", "list", "ruleset"]);
    capture(...everything, ...flags);
    expect(rules()).toMatch(/::6(\/128)? /);
    expect(rules()).not.toContain("nfproto ipv6");
    run(["ip", "address", "add", "10.0.0.5/24", "dev", "eth0"]);
    capture(...everything, ...flags);
    expect(rules()).toMatch(/::6(\/128)? /);
    capture(...everything, ...flags, "--dual-stack=false");
    expect(rules()).not.toMatch(/::6(\/128)? /);
    expect(rules().includes("nfproto ipv6 return")).toBe(flags.length > 0);
    capture("--cleanup-only");
  });

  it("are printed and not set by a dry run", () => {
    const before = state();
    expect(capture(...everything, "--dry-run")).toContain("-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001");
    expect(state()).toBe(before);
  });

  it("stay as they are when a setting is wrong", () => {
    capture(...everything);
    const before = state();
    const failed = spawnSync("nsenter", inside(binary, "pilot-agent", "istio-iptables", "--istio-inbound-ports", "http"), {
      encoding: "utf8",
    });
    expect(failed.stderr).toBe('error: --istio-inbound-ports: "http" is no port\n');
    expect(failed.status).toBe(1);
    expect(state()).toBe(before);
  });
});
