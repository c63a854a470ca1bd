/**
 * Networks whose addresses mean nothing outside: each a row of machines behind a router that masquerades what leaves, so that several may
 * have the same addresses. Only routers see each other. In network namespaces; needs what `namespacesProblem` asks for.
 *
 *     router 10.78.0.1 ──bridge──┬── router 10.78.0.2 ── 192.168.7.1 ──bridge──┬── machine 192.168.7.11   traffic captured
 *        │ 172.30.0.1            │                                             └── machine 192.168.7.12
 *     machine 172.30.0.11        └── router 10.78.0.3 ── 192.168.7.1 ───────────── machine 192.168.7.11
 */
import type { ChildProcess } from "node:child_process";
import { captureTraffic, type NetworkNamespace, namespaceOf, type ProxyPorts, runIn, startNamespace } from "./network-namespace.ts";

export interface NetworkPlan {
  /** Of the router, as the other routers see it. */
  readonly outside: string;
  /** Of the router, as its machines see it. */
  readonly inside: string;
  readonly machines: readonly string[];
}

export interface PrivateNetwork {
  readonly router: NetworkNamespace;
  readonly machines: readonly NetworkNamespace[];
}

/** In the order of the plan. `stack` takes all of it. */
export async function startPrivateNetworks(
  plan: readonly NetworkPlan[],
  proxyPorts: ProxyPorts,
  stack: AsyncDisposableStack,
): Promise<PrivateNetwork[]> {
  const start = async (address: string) => {
    const child = await startNamespace();
    const namespace = stack.use(namespaceOf(child, address));
    runIn(child, ["ip", "link", "set", "lo", "up"]);
    return { child, namespace };
  };
  const networks = await Promise.all(
    plan.map(async (one) => ({ plan: one, router: await start(one.outside), machines: await Promise.all(one.machines.map(start)) })),
  );
  const [first] = networks;
  addBridge(first!.router.child, "outside", first!.plan.outside);
  for (const [index, { plan: one, router, machines }] of networks.entries()) {
    if (index > 0) connect(router.child, "outside", one.outside, { bridge: "outside", of: first!.router.child, port: `router${index}` });
    addBridge(router.child, "inside", one.inside);
    runIn(router.child, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    // By both ends, since a kernel may show these rules what only passes a bridge.
    const leaving = ["-s", `${one.inside}/24`, "-o", "outside"];
    runIn(router.child, ["iptables", "-t", "nat", "-A", "POSTROUTING", ...leaving, "-j", "MASQUERADE"]);
    const uninvited = ["-i", "outside", "-o", "inside", "-m", "conntrack", "!", "--ctstate", "ESTABLISHED"];
    runIn(router.child, ["iptables", "-A", "FORWARD", ...uninvited, "-j", "DROP"]);
    for (const [number, machine] of machines.entries()) {
      const bridge = { bridge: "inside", of: router.child, port: `machine${number}` };
      connect(machine.child, "eth0", machine.namespace.address, bridge);
      runIn(machine.child, ["ip", "route", "add", "default", "via", one.inside]);
      captureTraffic(machine.child, proxyPorts);
    }
  }
  return networks.map(({ router, machines }) => ({ router: router.namespace, machines: machines.map(({ namespace }) => namespace) }));
}

function addBridge(where: ChildProcess, name: string, address: string): void {
  runIn(where, ["ip", "link", "add", name, "type", "bridge"]);
  runIn(where, ["ip", "address", "add", `${address}/24`, "dev", name]);
  runIn(where, ["ip", "link", "set", name, "up"]);
}

interface BridgePort {
  readonly bridge: string;
  readonly of: ChildProcess;
  readonly port: string;
}

function connect(child: ChildProcess, name: string, address: string, { bridge, of, port }: BridgePort): void {
  runIn(of, ["ip", "link", "add", port, "type", "veth", "peer", "name", name, "netns", String(child.pid)]);
  runIn(of, ["ip", "link", "set", port, "master", bridge, "up"]);
  runIn(child, ["ip", "address", "add", `${address}/24`, "dev", name]);
  runIn(child, ["ip", "link", "set", name, "up"]);
}
