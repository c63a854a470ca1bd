/**
 * The rules by which a workload's traffic passes its proxy, Istio's in Istio's order (tools/istio-iptables/pkg/capture/run.go).
 *
 *   from outside ──PREROUTING──> ISTIO_INBOUND ──> ISTIO_IN_REDIRECT: 15006
 *   from here ──OUTPUT──> ISTIO_OUTPUT ──> the proxy's own: out as it is
 *                                     ├──> names: ISTIO_OUTPUT_DNS: 15053
 *                                     └──> ISTIO_REDIRECT: 15001
 */
import { type CaptureSettings, loopback } from "./capture-settings.ts";
import { dnsConntrackRules, dnsRedirectRules } from "./dns-rules.ts";
import {
  comesIn,
  connectionState,
  drop,
  familyOf,
  from,
  goesOut,
  type IpFamily,
  jump,
  leave,
  marked,
  notFirst,
  type Part,
  passthroughSource,
  perFamily,
  protocol,
  type Rule,
  redirect,
  rule,
  sentBy,
  type Table,
  to,
  toNoneOfPorts,
  toPort,
  type Verdict,
} from "./rule.ts";
import { tproxyInboundRules, tproxyMarkRules } from "./tproxy-rules.ts";

export function captureRules(settings: CaptureSettings): Rule[] {
  const all = [
    ...excludedInterfaces(settings),
    ...settings.virtualInterfaces.map((device): Rule => ({ ...rule("nat", "PREROUTING", [comesIn(device)], leave), at: 1 })),
    ...(settings.dropInvalid ? invalidPackets : []),
    ...underWay.map((chain) => rule("nat", chain, [protocol("tcp"), notFirst], leave)),
    rule("nat", "ISTIO_INBOUND", [protocol("tcp"), toPort("tcp", settings.inboundTunnelPort)], leave),
    rule("nat", "ISTIO_REDIRECT", [protocol("tcp")], redirect(settings.proxyPort)),
    rule("nat", "ISTIO_IN_REDIRECT", [protocol("tcp")], redirect(settings.inboundCapturePort)),
    ...inbound(settings),
    rule("nat", "OUTPUT", [], jump("ISTIO_OUTPUT")),
    ...outbound(settings),
    ...(settings.mode === "TPROXY" ? tproxyMarkRules(settings) : []),
  ];
  return settings.ipv6 ? all : all.filter(({ family }) => family !== 6);
}

/**
 * Before the first rules nobody tracks connections; to the kernel, those that are open then begin in the middle of their lives. Redirected
 * they would be reset, and the session of whoever sets the rules is among them. Istio, which sets its rules in empty pods, has no such rule.
 */
const underWay = ["ISTIO_INBOUND", "ISTIO_OUTPUT"] as const;

const invalidPackets: readonly Rule[] = [
  rule("mangle", "PREROUTING", [connectionState("INVALID")], jump("ISTIO_DROP")),
  rule("mangle", "ISTIO_DROP", [], drop),
];

function excludedInterfaces({ excludedInterfaces, mode }: CaptureSettings): Rule[] {
  const tables: readonly Table[] = mode === "TPROXY" ? ["nat", "mangle"] : ["nat"];
  return tables.flatMap((table) =>
    excludedInterfaces.flatMap((device) => [
      rule(table, "PREROUTING", [comesIn(device)], leave),
      rule(table, "OUTPUT", [goesOut(device)], leave),
    ]),
  );
}

function inbound(settings: CaptureSettings): Rule[] {
  const { inboundPorts, inboundExcludedPorts, mode } = settings;
  if (inboundPorts.length === 0) return [];
  if (mode === "TPROXY") return tproxyInboundRules(settings);
  const tcp = protocol("tcp");
  return [
    rule("nat", "PREROUTING", [tcp], jump("ISTIO_INBOUND")),
    ...(inboundPorts === "*"
      ? [
          ...inboundExcludedPorts.map((port) => rule("nat", "ISTIO_INBOUND", [tcp, toPort("tcp", port)], leave)),
          rule("nat", "ISTIO_INBOUND", [tcp], jump("ISTIO_IN_REDIRECT")),
        ]
      : inboundPorts.map((port) => rule("nat", "ISTIO_INBOUND", [tcp, toPort("tcp", port)], jump("ISTIO_IN_REDIRECT")))),
  ];
}

function outbound(settings: CaptureSettings): Rule[] {
  const { outboundExcludedPorts, outboundPorts, excludedRanges, dns } = settings;
  const output = (match: readonly Part[], verdict: Verdict, family?: IpFamily) => rule("nat", "ISTIO_OUTPUT", match, verdict, family);
  return [
    ...outboundExcludedPorts.flatMap((port) =>
      (["tcp", "udp"] as const).map((name) => output([protocol(name), toPort(name, port)], leave)),
    ),
    ...perFamily((family) => output([goesOut("lo"), from(passthroughSource[family])], leave)),
    ...(settings.mode === "TPROXY" ? [toOwnApplication(settings)] : []),
    ...settings.proxyUids.flatMap((uid) => proxysOwn(settings, "uid", uid)),
    ...settings.proxyGids.flatMap((gid) => proxysOwn(settings, "gid", gid)),
    ...ownerGroups(settings),
    ...(dns ? [...dnsRedirectRules(dns), ...dnsConntrackRules(dns, settings)] : []),
    ...perFamily((family) => output([to(loopback(settings, family))], leave)),
    ...excludedRanges.map((cidr) => output([to(cidr)], leave, familyOf(cidr))),
    ...outboundPorts.map((port) => output([protocol("tcp"), toPort("tcp", port)], jump("ISTIO_REDIRECT"))),
    ...included(settings),
  ];
}

/**
 * What the proxy sends to its application from the caller's address: that one it has to reach. Istio has no such rule and runs its proxy as
 * root in this mode, whose traffic on lo is nobody's; a proxy that is its own user would call itself without end.
 */
function toOwnApplication({ tproxyMark }: CaptureSettings): Rule {
  return rule("nat", "ISTIO_OUTPUT", [goesOut("lo"), protocol("tcp"), marked(tproxyMark)], leave);
}

/** What the proxy sends must not come back to it, but for a workload that calls itself by its service's address. */
function proxysOwn(settings: CaptureSettings, kind: "uid" | "gid", who: string): Rule[] {
  const { dns, includedRanges, inboundTunnelPort } = settings;
  const output = (match: readonly Part[], verdict: Verdict) => rule("nat", "ISTIO_OUTPUT", match, verdict);
  const lo = goesOut("lo");
  const tcp = protocol("tcp");
  // An upstream name server may listen on this machine: the agent's queries to it are not the proxy's business.
  const port = dns && kind === "uid" ? toNoneOfPorts("tcp", ["53", inboundTunnelPort]) : toPort("tcp", inboundTunnelPort, true);
  const capturesLoopback = includedRanges !== "*" && includedRanges.some((cidr) => cidr.startsWith("127.") || cidr.startsWith("::1/"));
  const others = sentBy(kind, who, true);
  return [
    ...perFamily((family) => output([lo, to(loopback(settings, family), true), tcp, port, sentBy(kind, who)], jump("ISTIO_IN_REDIRECT"))),
    ...(capturesLoopback ? [] : [output(dns ? [lo, tcp, toPort("tcp", "53", true), others] : [lo, others], leave)]),
    output([sentBy(kind, who)], leave),
  ];
}

function ownerGroups({ ownerGroups }: CaptureSettings): Rule[] {
  if ("except" in ownerGroups) return ownerGroups.except.map((group) => rule("nat", "ISTIO_OUTPUT", [sentBy("gid", group)], leave));
  return [
    rule(
      "nat",
      "ISTIO_OUTPUT",
      ownerGroups.only.map((group) => sentBy("gid", group, true)),
      leave,
    ),
  ];
}

function included({ includedRanges, virtualInterfaces }: CaptureSettings): Rule[] {
  const redirected = jump("ISTIO_REDIRECT");
  const machines = (match: readonly Part[], family?: IpFamily) =>
    virtualInterfaces.map((device): Rule => ({ ...rule("nat", "PREROUTING", [comesIn(device), ...match], redirected, family), at: 1 }));
  if (includedRanges === "*") return [rule("nat", "ISTIO_OUTPUT", [], redirected), ...machines([])];
  return includedRanges.flatMap((cidr) => [
    ...machines([to(cidr)], familyOf(cidr)),
    rule("nat", "ISTIO_OUTPUT", [to(cidr)], redirected, familyOf(cidr)),
  ]);
}
