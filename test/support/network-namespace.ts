/**
 * Machines of their own for tests: network namespaces on a common bridge, whose traffic pilot-agent's own rules capture.
 * Needs root and iptables; `namespacesProblem` says what is missing.
 *
 *     hub 10.77.0.1 ──bridge──┬── machine 10.77.0.11   outbound TCP -> 15001, inbound TCP -> 15006, except what the proxy's user sends
 *                             └── machine 10.77.0.12
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { join } from "node:path";

/** User and group of the proxies, whose traffic is not redirected. */
const proxyUser = 1337;
/** No root, as on a machine; what they are given to read and to listen on need not be theirs. */
const capabilities = "+net_admin,+net_bind_service,+dac_override";
const asProxyUser = [
  "setpriv",
  `--reuid=${proxyUser}`,
  `--regid=${proxyUser}`,
  "--clear-groups",
  `--inh-caps=${capabilities}`,
  `--ambient-caps=${capabilities}`,
  "--",
];
const program = join(import.meta.dirname, "..", "..", "src", "main.ts");

export interface NetworkNamespace extends AsyncDisposable {
  readonly address: string;
  /** The command inside of it; `asProxy`: what it sends is not redirected; `ownFiles`: with what was mounted there. */
  command(
    args: readonly string[],
    options?: { readonly asProxy?: boolean; readonly ownFiles?: boolean },
  ): [command: string, args: string[]];
}

/** Why namespaces are not to be had here; undefined: they are. */
export function namespacesProblem(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  for (const [command, ...args] of [
    ["iptables", "--version"],
    ["ip", "-V"],
    ["unshare", "--net", "iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "1"],
  ] as const) {
    try {
      execFileSync(command, args, { stdio: "ignore" });
    } catch (error) {
      return `${command} ${args.join(" ")}: ${(error as Error).message}`;
    }
  }
  return undefined;
}

/** Of a machine that has both: 10.77.0.11 and fd77::11. */
export function ipv6Of(address: string): string {
  return `fd77::${address.slice(address.lastIndexOf(".") + 1)}`;
}

/** The first address is the hub's, which redirects nothing; the others are machines. `hasIpv6`: all have one of that family as well. */
export async function startNamespaces(
  addresses: readonly string[],
  proxyPorts: ProxyPorts,
  inboundMode: "REDIRECT" | "TPROXY" = "REDIRECT",
  hasIpv6 = false,
): Promise<NetworkNamespace[]> {
  const processes = await Promise.all(addresses.map(startNamespace));
  const [hub] = processes;
  runIn(hub!, ["ip", "link", "add", "bridge", "type", "bridge"]);
  runIn(hub!, ["ip", "address", "add", `${addresses[0]}/24`, "dev", "bridge"]);
  for (const link of ["lo", "bridge"]) runIn(hub!, ["ip", "link", "set", link, "up"]);
  const addIpv6 = (child: ChildProcess, address: string, link: string) =>
    runIn(child, ["ip", "address", "add", `${ipv6Of(address)}/64`, "dev", link, "nodad"]);
  if (hasIpv6) addIpv6(hub!, addresses[0]!, "bridge");
  for (const [index, child] of processes.entries()) {
    if (index === 0) continue;
    runIn(hub!, ["ip", "link", "add", `port${index}`, "type", "veth", "peer", "name", "eth0", "netns", String(child.pid)]);
    runIn(hub!, ["ip", "link", "set", `port${index}`, "master", "bridge", "up"]);
    runIn(child, ["ip", "address", "add", `${addresses[index]}/24`, "dev", "eth0"]);
    for (const link of ["lo", "eth0"]) runIn(child, ["ip", "link", "set", link, "up"]);
    // Addresses of services are nobody's; they need a way out to be redirected.
    runIn(child, ["ip", "route", "add", "default", "dev", "eth0"]);
    if (hasIpv6) {
      addIpv6(child, addresses[index]!, "eth0");
      runIn(child, ["ip", "-6", "route", "add", "default", "dev", "eth0"]);
    }
    captureTraffic(child, proxyPorts, inboundMode);
  }
  return processes.map((child, index) => namespaceOf(child, addresses[index]!));
}

export interface ProxyPorts {
  readonly outbound: number;
  readonly inbound: number;
}

/** All of it, by pilot-agent's rules. */
export function captureTraffic(child: ChildProcess, ports: ProxyPorts, inboundMode: "REDIRECT" | "TPROXY" = "REDIRECT"): void {
  const ids = ["--proxy-uid", String(proxyUser), "--proxy-gid", String(proxyUser)];
  const to = ["--envoy-port", String(ports.outbound), "--inbound-capture-port", String(ports.inbound)];
  const everything = ["--istio-inbound-ports", "*", "--istio-service-cidr", "*", "--istio-inbound-interception-mode", inboundMode];
  runIn(child, [process.execPath, program, "pilot-agent", "istio-iptables", ...ids, ...to, ...everything]);
}

/** `child`: what `startNamespace` gave. */
export function namespaceOf(child: ChildProcess, address: string): NetworkNamespace {
  return {
    address,
    command: (args, { asProxy = false, ownFiles = false } = {}) => [
      "nsenter",
      ["--target", String(child.pid), "--net", ...(ownFiles ? ["--mount"] : []), "--", ...(asProxy ? asProxyUser : []), ...args],
    ],
    async [Symbol.asyncDispose]() {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.stdin?.end();
      await exited;
    },
  };
}

/** A process that holds the namespace as long as its input is open; what is written to /run is the machine's own too. */
export async function startNamespace(): Promise<ChildProcess> {
  const child = spawn("unshare", ["--net", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && echo ready; cat"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error("unshare ended")));
    child.stdout.once("data", () => resolve());
  });
  return child;
}

export function runIn({ pid }: ChildProcess, args: readonly string[]): void {
  execFileSync("nsenter", ["--target", String(pid), "--net", "--mount", "--", ...args], { stdio: ["ignore", "ignore", "pipe"] });
}
