import { describe, expect, it } from "vitest";
import { captureRules } from "./capture-rules.ts";
import { CaptureError, captureSettings, type FlagValues, type MachineFacts } from "./capture-settings.ts";
import { flagValues } from "./flags.ts";
import { findResidue, iptablesText } from "./iptables-text.ts";
import { nftablesText } from "./nftables-text.ts";

const machine: MachineFacts = { proxyUser: { uid: "998", gid: "997" }, addresses: ["10.0.0.5"], nameServers: ["127.0.0.53"] };

function rulesOf(flags: FlagValues, env: FlagValues = {}, facts: Partial<MachineFacts> = {}) {
  return captureRules(captureSettings(flags, env, { ...machine, ...facts }));
}
/** The rules of one chain of the nat table, without their `-A CHAIN`. */
function chain(name: string, ...given: Parameters<typeof rulesOf>): string[] {
  return linesOf(iptablesText(rulesOf(...given), 4), "nat")
    .filter((line) => line.startsWith(`-A ${name} `))
    .map((line) => line.slice(`-A ${name} `.length));
}
function linesOf(text: string, table: string): string[] {
  return text.split(`*${table}\n`)[1]?.split("\nCOMMIT")[0]?.split("\n") ?? [];
}

describe("rules of capture", () => {
  it("capture nothing but what is asked for", () => {
    expect(chain("PREROUTING", {})).toEqual([]);
    expect(chain("ISTIO_OUTPUT", {}).filter((line) => line.endsWith("-j ISTIO_REDIRECT"))).toEqual([]);
  });

  it("take all ports, or those that are named", () => {
    expect(chain("ISTIO_INBOUND", { "istio-inbound-ports": "*", "istio-local-exclude-ports": "22,15090" })).toEqual([
      "-p tcp ! --syn -j RETURN",
      "-p tcp --dport 15008 -j RETURN",
      "-p tcp --dport 22 -j RETURN",
      "-p tcp --dport 15090 -j RETURN",
      "-p tcp -j ISTIO_IN_REDIRECT",
    ]);
    expect(chain("ISTIO_INBOUND", { "istio-inbound-ports": "80,81", "istio-local-exclude-ports": "22" })).toEqual([
      "-p tcp ! --syn -j RETURN",
      "-p tcp --dport 15008 -j RETURN",
      "-p tcp --dport 80 -j ISTIO_IN_REDIRECT",
      "-p tcp --dport 81 -j ISTIO_IN_REDIRECT",
    ]);
  });

  it("leave alone what the proxy's user and its own group send, in this order", () => {
    expect(chain("ISTIO_OUTPUT", { "istio-service-cidr": "*", "istio-service-exclude-cidr": "10.1.0.0/16" })).toEqual([
      "-p tcp ! --syn -j RETURN",
      "-o lo -s 127.0.0.6/32 -j RETURN",
      "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 998 -j ISTIO_IN_REDIRECT",
      "-o lo -m owner ! --uid-owner 998 -j RETURN",
      "-m owner --uid-owner 998 -j RETURN",
      "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 997 -j ISTIO_IN_REDIRECT",
      "-o lo -m owner ! --gid-owner 997 -j RETURN",
      "-m owner --gid-owner 997 -j RETURN",
      "-d 127.0.0.1/32 -j RETURN",
      "-d 10.1.0.0/16 -j RETURN",
      "-j ISTIO_REDIRECT",
    ]);
  });

  it("capture look-ups to the machine's name servers, or to any", () => {
    expect(chain("ISTIO_OUTPUT_DNS", { "redirect-dns": "true" })).toEqual([
      "-p tcp --dport 53 -d 127.0.0.53/32 -j REDIRECT --to-ports 15053",
      "-p udp --dport 53 -d 127.0.0.53/32 -j REDIRECT --to-ports 15053",
    ]);
    expect(chain("ISTIO_OUTPUT_DNS", { "redirect-dns": "true", "capture-all-dns": "true" })).toEqual([
      "-p tcp --dport 53 -j REDIRECT --to-ports 15053",
      "-p udp --dport 53 -j REDIRECT --to-ports 15053",
    ]);
    expect(chain("ISTIO_OUTPUT_DNS", { "redirect-dns": "true" }, {}, { nameServers: [] })).toEqual([]);
  });

  it("keep the two halves of a captured look-up in different zones", () => {
    const raw = linesOf(iptablesText(rulesOf({ "redirect-dns": "true" }), 4), "raw").filter((line) => line.includes(" CT "));
    expect(raw).toContain("-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --uid-owner 998 -j CT --zone 1");
    expect(raw).toContain("-A ISTIO_OUTPUT_DNS -p udp --dport 53 -d 127.0.0.53/32 -j CT --zone 2");
    // The agent's own packets match both, and the first rule with a zone decides.
    expect(raw.findIndex((line) => line.includes("--uid-owner 998"))).toBeLessThan(raw.findIndex((line) => line.includes("-d 127.0.0.53")));
  });

  it.each([
    [["10.0.0.5"], {}, false],
    [["10.0.0.5"], { "dual-stack": "true" }, true],
    [["10.0.0.5", "fd00::5"], {}, true],
    [["10.0.0.5", "fd00::5"], { "dual-stack": "false" }, false],
    [["fd00::5"], { "dual-stack": "false" }, true],
  ])("are made for IPv6 where the proxy listens on it: %j %j", (addresses, flags, expected) => {
    expect(iptablesText(rulesOf(flags, {}, { addresses }), 6).includes("::1")).toBe(expected);
  });

  it("are of IPv6 for its ranges", () => {
    const ipv6 = iptablesText(rulesOf({ "istio-service-cidr": "10.0.0.0/8,2001:db8::/32" }, {}, { addresses: ["fd00::5"] }), 6);
    expect(ipv6).toContain("-A ISTIO_OUTPUT -d ::1/128 -j RETURN");
    expect(ipv6).toContain("-A ISTIO_OUTPUT -d 2001:db8::/32 -j ISTIO_REDIRECT");
    expect(ipv6).not.toContain("10.0.0.0");
  });

  it("hand packets over by mark in TPROXY mode, and redirect what goes out all the same", () => {
    const flags = { "istio-inbound-ports": "*", "istio-inbound-interception-mode": "TPROXY", "istio-service-cidr": "*" };
    const text = iptablesText(rulesOf(flags), 4);
    const mangle = linesOf(text, "mangle");
    expect(mangle).toContain("-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff --on-port 15006");
    expect(mangle).toContain("-I ISTIO_INBOUND 1 -p tcp -m mark --mark 1337 -j RETURN");
    expect(linesOf(text, "nat").some((line) => line.startsWith("-A PREROUTING"))).toBe(false);
    expect(chain("ISTIO_OUTPUT", flags).at(-1)).toBe("-j ISTIO_REDIRECT");
  });

  it("let the proxy reach its application from the caller's address in TPROXY mode, whoever it runs as and by whatever mark", () => {
    const flags = { "istio-inbound-ports": "*", "istio-inbound-interception-mode": "TPROXY" };
    const before = "-o lo -p tcp -m mark --mark 1337 -j RETURN";
    const output = chain("ISTIO_OUTPUT", flags);
    expect(output.indexOf(before)).toBeGreaterThanOrEqual(0);
    expect(output.indexOf(before)).toBeLessThan(output.findIndex((line) => line.endsWith("-j ISTIO_IN_REDIRECT")));
    expect(chain("ISTIO_OUTPUT", {})).not.toContain(before);
    const text = iptablesText(rulesOf({ ...flags, "istio-inbound-tproxy-mark": "99" }), 4);
    expect(linesOf(text, "mangle")).toContain("-A OUTPUT -p tcp -o lo -m mark --mark 1337 -j MARK --set-mark 99");
    expect(linesOf(text, "nat")).toContain("-A ISTIO_OUTPUT -o lo -p tcp -m mark --mark 99 -j RETURN");
  });

  it("leave IPv6 alone in nftables' tables, which are for both families, where it is not captured", () => {
    const rules = rulesOf({ "istio-inbound-ports": "*", "redirect-dns": "true" });
    const spared = (text: string) => text.split("\n").filter((line) => line.includes("nfproto"));
    expect(spared(nftablesText(rules, [4]))).toEqual(
      ["nat prerouting", "nat output", "raw prerouting", "raw output"].map(
        (chain) => `add rule inet istio-proxy-${chain} meta nfproto ipv6 return`,
      ),
    );
    expect(spared(nftablesText(rules, [4, 6]))).toEqual([]);
  });

  it("leave interfaces alone by the beginning of their names in both languages, and name each once", () => {
    const flags = { "istio-exclude-interfaces": "veth+,eth1,veth+", "istio-inbound-ports": "*" };
    expect(chain("PREROUTING", flags)).toEqual(["-i veth+ -j RETURN", "-i eth1 -j RETURN", "-p tcp -j ISTIO_INBOUND"]);
    const text = nftablesText(rulesOf(flags));
    for (const part of ['iifname "veth*"', 'oifname "veth*"', 'iifname "eth1"']) expect(text.split(part)).toHaveLength(2);
  });

  it("capture only some groups, or all but some", () => {
    expect(chain("ISTIO_OUTPUT", {}, { ISTIO_OUTBOUND_OWNER_GROUPS: "java,202" })).toContain(
      "-m owner ! --gid-owner java -m owner ! --gid-owner 202 -j RETURN",
    );
    expect(chain("ISTIO_OUTPUT", {}, { ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: "ftp" })).toContain("-m owner --gid-owner ftp -j RETURN");
  });

  it("say the same to nftables, places included", () => {
    const text = nftablesText(rulesOf({ "istio-inbound-ports": "80", "kube-virt-interfaces": "virbr0", "istio-service-cidr": "*" }));
    const prerouting = text.split("\n").filter((line) => line.startsWith("add rule inet istio-proxy-nat prerouting"));
    expect(prerouting).toEqual([
      'add rule inet istio-proxy-nat prerouting iifname "virbr0" counter jump istio-redirect',
      'add rule inet istio-proxy-nat prerouting iifname "virbr0" counter return',
      "add rule inet istio-proxy-nat prerouting meta l4proto tcp counter jump istio-inbound",
    ]);
  });
});

describe("settings of capture", () => {
  const bad: readonly [FlagValues, FlagValues, string][] = [
    [{ "istio-inbound-ports": "80,http" }, {}, '--istio-inbound-ports: "http" is no port'],
    [{ "envoy-port": "65536" }, {}, '--envoy-port: "65536" is no port'],
    [{ "istio-service-cidr": "10.0.0.0/33" }, {}, '--istio-service-cidr: "10.0.0.0/33" is no range like 10.0.0.0/8'],
    [{ "istio-service-cidr": "10.0.0.0" }, {}, '--istio-service-cidr: "10.0.0.0" is no range like 10.0.0.0/8'],
    [{ "istio-service-exclude-cidr": "*" }, {}, '--istio-service-exclude-cidr: "*" is no list of ranges like 10.0.0.0/8'],
    [{ "istio-inbound-interception-mode": "NONE" }, {}, '--istio-inbound-interception-mode: "NONE" is neither REDIRECT nor TPROXY'],
    [{ "istio-inbound-tproxy-mark": "0" }, {}, '--istio-inbound-tproxy-mark: "0" is no number from 1 to 4294967295'],
    [{ "istio-exclude-interfaces": "eth0 -j ACCEPT" }, {}, '--istio-exclude-interfaces: "eth0 -j ACCEPT" is no name of an interface'],
    [{ "proxy-uid": "0\n-A OUTPUT" }, {}, '--proxy-uid: "0\n-A OUTPUT" is neither a name nor a number'],
    [
      {},
      { ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: "10.0.0.1/32" },
      'ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: "10.0.0.1/32" is no range of 127.0.0.0/8',
    ],
  ];
  it.each(bad)("refuse %j %j", (flags, env, message) => {
    expect(() => captureSettings(flags, env, machine)).toThrow(new CaptureError(message));
  });

  it("come from the command line, else from the variable of the same name, else from an older one", () => {
    const env = { ISTIO_INBOUND_PORTS: "80", ISTIO_META_DNS_CAPTURE: "true", ENVOY_PORT: "9" };
    const values = flagValues({ "istio-inbound-ports": "81" }, env);
    expect(values["istio-inbound-ports"]).toBe("81");
    expect(flagValues({}, env)["istio-inbound-ports"]).toBe("80");
    expect(values["redirect-dns"]).toBe("true");
    expect(values["envoy-port"]).toBeUndefined();
  });
});

describe("residue of capture", () => {
  it("is our chains and what leads to them, and nothing of others", () => {
    const saved = [
      "*nat",
      ":OUTPUT ACCEPT [0:0]",
      ":DOCKER - [0:0]",
      ":ISTIO_OUTPUT - [0:0]",
      "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
      "-A OUTPUT -j ISTIO_OUTPUT",
      "-A ISTIO_OUTPUT -j RETURN",
      "COMMIT",
      "*filter",
      ":ISTIO_OF_ANOTHER - [0:0]",
      "COMMIT",
    ].join("\n");
    const residue = findResidue(saved);
    expect(residue.nat).toEqual({ rules: ["-A OUTPUT -j ISTIO_OUTPUT"], chains: ["ISTIO_OUTPUT"] });
    expect(iptablesText([], 4, residue)).toBe("*nat\n-D OUTPUT -j ISTIO_OUTPUT\n-F ISTIO_OUTPUT\n-X ISTIO_OUTPUT\nCOMMIT\n");
  });
});
