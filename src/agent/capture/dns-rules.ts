/** Name look-ups go to the agent's DNS proxy: those to the machine's own name servers, or all. */
import type { CaptureSettings, DnsCapture } from "./capture-settings.ts";
import {
  familyOf,
  from,
  fromPort,
  type IpFamily,
  jump,
  type Part,
  type Protocol,
  protocol,
  type Rule,
  redirect,
  rule,
  sentBy,
  to,
  toPort,
  zone,
} from "./rule.ts";

const agentPort = "15053";
const udp = protocol("udp");

/** To each name server, or to any when there is no list. */
function perServer(servers: DnsCapture["servers"], make: (server: string | undefined) => Rule): Rule[] {
  if (servers === "any") return [make(undefined)];
  return servers.map((server) => ({ ...make(hostRange(server)), family: familyOf(server) }));
}

function hostRange(address: string): string {
  return familyOf(address) === 4 ? `${address}/32` : `${address}/128`;
}

/** The families for which there is something to capture. */
function perUsedFamily(servers: DnsCapture["servers"], make: () => Rule): Rule[] {
  if (servers === "any") return [make()];
  const used = new Set(servers.map(familyOf));
  return ([4, 6] as readonly IpFamily[]).filter((family) => used.has(family)).map((family) => ({ ...make(), family }));
}

export function dnsRedirectRules({ servers }: DnsCapture): Rule[] {
  const redirected = (name: Protocol) =>
    perServer(servers, (server) =>
      rule("nat", "ISTIO_OUTPUT_DNS", [protocol(name), toPort(name, "53"), ...(server ? [to(server)] : [])], redirect(agentPort)),
    );
  return [
    rule("raw", "OUTPUT", [], jump("ISTIO_OUTPUT_DNS")),
    ...perUsedFamily(servers, () => rule("nat", "ISTIO_OUTPUT", [], jump("ISTIO_OUTPUT_DNS"))),
    ...redirected("tcp"),
    ...redirected("udp"),
  ];
}

/**
 * Two connections with the same four addresses, client to agent and agent to name server, would be one to connection tracking:
 * the agent's own are zone 1, the clients' zone 2.
 */
export function dnsConntrackRules({ servers }: DnsCapture, { proxyUids, proxyGids }: CaptureSettings): Rule[] {
  const output = (match: readonly Part[], number: 1 | 2) => rule("raw", "ISTIO_OUTPUT_DNS", [udp, ...match], zone(number));
  const agents = (kind: "uid" | "gid", who: string) => [
    output([toPort("udp", "53"), sentBy(kind, who)], 1),
    output([fromPort("udp", agentPort), sentBy(kind, who)], 2),
  ];
  return [
    ...proxyUids.flatMap((uid) => agents("uid", uid)),
    ...proxyGids.flatMap((gid) => agents("gid", gid)),
    ...perUsedFamily(servers, () => rule("raw", "PREROUTING", [], jump("ISTIO_INBOUND"))),
    ...perServer(servers, (server) => output([toPort("udp", "53"), ...(server ? [to(server)] : [])], 2)),
    ...perServer(servers, (server) =>
      rule("raw", "ISTIO_INBOUND", [udp, fromPort("udp", "53"), ...(server ? [from(server)] : [])], zone(1)),
    ),
  ];
}
