/** What capture needs besides rules: an address for the proxy's own calls over IPv6, and in TPROXY mode a route for marked packets. */
import type { CaptureSettings } from "./capture-settings.ts";
import { type CommandRunner, succeeds } from "./command-runner.ts";
import type { IpFamily } from "./rule.ts";

/** Mark and routing table of the packets that are handed over. */
export interface MarkedRoute {
  readonly mark: string;
  readonly table: string;
}

/** IPv4 has all of 127.0.0.0/8 on lo, IPv6 one address alone. */
const passthroughAddress = ["address", "add", "::6/128", "dev", "lo"];

export function markedRoute({ mode, inboundPorts, tproxyMark, tproxyRouteTable }: CaptureSettings): MarkedRoute | undefined {
  return mode === "TPROXY" && inboundPorts.length > 0 ? { mark: tproxyMark, table: tproxyRouteTable } : undefined;
}

export async function addRoutes(run: CommandRunner, route: MarkedRoute | undefined, families: readonly IpFamily[]): Promise<void> {
  for (const family of families) {
    if (family === 6 && !(await run("ip", ["-6", "address", "show", "dev", "lo"])).includes(" ::6/128")) {
      await run("ip", ["-6", ...passthroughAddress]);
    }
    if (!route) continue;
    await removeRoute(run, route, family);
    await run("ip", [`-${family}`, "rule", "add", "fwmark", route.mark, "lookup", route.table]);
    await run("ip", [`-${family}`, "route", "replace", "local", family === 4 ? "0.0.0.0/0" : "::/0", "dev", "lo", "table", route.table]);
  }
}

/** The address stays: it disturbs nobody, and others may use it by now. */
export async function removeRoutes(run: CommandRunner, route: MarkedRoute | undefined): Promise<void> {
  if (!route) return;
  for (const family of [4, 6] as const) {
    await removeRoute(run, route, family);
    await succeeds(run, "ip", [`-${family}`, "route", "flush", "table", route.table]);
  }
}

/** The kernel takes the same rule any number of times. */
async function removeRoute(run: CommandRunner, { mark, table }: MarkedRoute, family: IpFamily): Promise<void> {
  for (let left = 16; left > 0; left--) {
    if (!(await succeeds(run, "ip", [`-${family}`, "rule", "delete", "fwmark", mark, "lookup", table]))) return;
  }
}
