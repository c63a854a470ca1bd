/**
 * Inbound capture that leaves addresses as they are: packets are handed to the proxy's transparent socket by mark and routing table
 * instead of being rewritten. Outbound traffic is redirected all the same.
 */
import { type CaptureSettings, loopback } from "./capture-settings.ts";
import {
  accept,
  comesIn,
  connectionMarked,
  connectionState,
  from,
  goesOut,
  jump,
  leave,
  marked,
  notFirst,
  type Part,
  passthroughSource,
  perFamily,
  protocol,
  type Rule,
  restoreMark,
  rule,
  saveMark,
  sentBy,
  setMark,
  to,
  toPort,
  tproxy,
} from "./rule.ts";

/** That the proxy gives what it sends to its application from the caller's address; the control plane says so, as Istio's. */
const originalSourceMark = "1337";
/** Of what the proxy sends to an application of this machine: it has been through the proxy, and is to be captured once more as inbound. */
const outboundMark = "1338";
const tcp = protocol("tcp");

export function tproxyInboundRules(settings: CaptureSettings): Rule[] {
  const { inboundPorts, inboundExcludedPorts, inboundCapturePort, tproxyMark } = settings;
  const inbound = (match: readonly Part[], verdict: Rule["verdict"]) => rule("mangle", "ISTIO_INBOUND", [tcp, ...match], verdict);
  const handed = (match: readonly Part[]) => [
    inbound([...match, connectionState("RELATED", "ESTABLISHED")], jump("ISTIO_DIVERT")),
    inbound(match, jump("ISTIO_TPROXY")),
  ];
  return [
    rule("mangle", "ISTIO_DIVERT", [], setMark(tproxyMark)),
    rule("mangle", "ISTIO_DIVERT", [], accept),
    ...perFamily((family) =>
      rule("mangle", "ISTIO_TPROXY", [to(loopback(settings, family), true), tcp], tproxy(family, inboundCapturePort, tproxyMark)),
    ),
    rule("mangle", "PREROUTING", [tcp], jump("ISTIO_INBOUND")),
    // Open before there were rules: see capture-rules.ts.
    inbound([notFirst, connectionState("NEW")], leave),
    ...(inboundPorts === "*"
      ? [...inboundExcludedPorts.map((port) => inbound([toPort("tcp", port)], leave)), ...handed([])]
      : inboundPorts.flatMap((port) => handed([toPort("tcp", port)]))),
  ];
}

export function tproxyMarkRules(settings: CaptureSettings): Rule[] {
  const { tproxyMark, proxyUids, proxyGids } = settings;
  const lo = goesOut("lo");
  const toOwnApplication = (owner: Part) =>
    perFamily((family) => rule("mangle", "OUTPUT", [to(loopback(settings, family), true), tcp, lo, owner], setMark(outboundMark)));
  return [
    ...(tproxyMark === originalSourceMark ? [] : [rule("mangle", "OUTPUT", [tcp, lo, marked(originalSourceMark)], setMark(tproxyMark))]),
    rule("mangle", "PREROUTING", [tcp, marked(tproxyMark)], saveMark),
    rule("mangle", "OUTPUT", [tcp, lo, marked(tproxyMark)], leave),
    ...proxyUids.flatMap((uid) => toOwnApplication(sentBy("uid", uid))),
    ...proxyGids.flatMap((gid) => toOwnApplication(sentBy("gid", gid))),
    rule("mangle", "OUTPUT", [tcp, connectionMarked(tproxyMark)], restoreMark),
    { ...rule("mangle", "ISTIO_INBOUND", [tcp, marked(tproxyMark)], leave), at: 1 },
    ...perFamily((family) => ({ ...rule("mangle", "ISTIO_INBOUND", [tcp, from(passthroughSource[family]), comesIn("lo")], leave), at: 2 })),
    { ...rule("mangle", "ISTIO_INBOUND", [tcp, comesIn("lo"), marked(outboundMark, true)], leave), at: 3 },
  ];
}
