/**
 * One rule of packet filtering in the two languages that the kernel's tools speak. A part of a rule carries both of its texts, so that
 * the rules themselves (capture-rules.ts) are written once, in the order in which they hold.
 */
export type Table = "raw" | "mangle" | "nat";
export type BuiltInChain = "PREROUTING" | "OUTPUT";
export type OwnChain =
  | "ISTIO_INBOUND"
  | "ISTIO_OUTPUT"
  | "ISTIO_OUTPUT_DNS"
  | "ISTIO_REDIRECT"
  | "ISTIO_IN_REDIRECT"
  | "ISTIO_DIVERT"
  | "ISTIO_TPROXY"
  | "ISTIO_DROP";
export type Chain = BuiltInChain | OwnChain;
export type IpFamily = 4 | 6;
export type Protocol = "tcp" | "udp";

export const ownChainPrefix = "ISTIO_";

export function isOwnChain(chain: string): chain is OwnChain {
  return chain.startsWith(ownChainPrefix);
}

/** A condition, or what happens when all conditions hold. */
export interface Part {
  readonly iptables: string;
  readonly nftables: string;
}

export interface Verdict extends Part {
  /** Of a jump to another chain. */
  readonly chain?: OwnChain;
}

export interface Rule {
  readonly table: Table;
  readonly chain: Chain;
  /** Only for this family; absent: for both. */
  readonly family?: IpFamily | undefined;
  /** Goes before the rules that the chain has at this place, counted from 1; absent: at the end. */
  readonly at?: number;
  readonly match: readonly Part[];
  readonly verdict: Verdict;
}

const not = (negate: boolean, word: string) => (negate ? word : "");

export function comesIn(device: string): Part {
  return { iptables: `-i ${device}`, nftables: `iifname ${quoted(device)}` };
}

export function goesOut(device: string): Part {
  return { iptables: `-o ${device}`, nftables: `oifname ${quoted(device)}` };
}

export function protocol(name: Protocol): Part {
  return { iptables: `-p ${name}`, nftables: `meta l4proto ${name}` };
}

export function from(cidr: string): Part {
  return { iptables: `-s ${cidr}`, nftables: `${ip(cidr)} saddr ${cidr}` };
}

export function to(cidr: string, negate = false): Part {
  return { iptables: `${not(negate, "! ")}-d ${cidr}`, nftables: `${ip(cidr)} daddr ${not(negate, "!= ")}${cidr}` };
}

export function toPort(name: Protocol, port: string, negate = false): Part {
  return { iptables: `${not(negate, "! ")}--dport ${port}`, nftables: `${name} dport ${not(negate, "!= ")}${port}` };
}

export function toNoneOfPorts(name: Protocol, ports: readonly string[]): Part {
  return { iptables: `-m multiport ! --dports ${ports.join(",")}`, nftables: `${name} dport != { ${ports.join(", ")} }` };
}

export function fromPort(name: Protocol, port: string): Part {
  return { iptables: `--sport ${port}`, nftables: `${name} sport ${port}` };
}

/** Not the first packet of a connection. */
export const notFirst: Part = { iptables: "! --syn", nftables: "tcp flags & (fin | syn | rst | ack) != syn" };

/** The process that sends it runs as this user or group. */
export function sentBy(kind: "uid" | "gid", who: string, negate = false): Part {
  return {
    iptables: `-m owner ${not(negate, "! ")}--${kind}-owner ${who}`,
    nftables: `meta sk${kind} ${not(negate, "!= ")}${who}`,
  };
}

export function connectionState(...states: readonly string[]): Part {
  return {
    iptables: `-m conntrack --ctstate ${states.join(",")}`,
    nftables: `ct state ${states.map((state) => state.toLowerCase()).join(",")}`,
  };
}

export function marked(mark: string, negate = false): Part {
  return { iptables: `-m mark ${not(negate, "! ")}--mark ${mark}`, nftables: `meta mark ${not(negate, "!= ")}${mark}` };
}

export function connectionMarked(mark: string): Part {
  return { iptables: `-m connmark --mark ${mark}`, nftables: `ct mark ${mark}` };
}

export function jump(chain: OwnChain): Verdict {
  return { iptables: `-j ${chain}`, nftables: `jump ${nftablesChain(chain)}`, chain };
}

export const leave: Verdict = { iptables: "-j RETURN", nftables: "return" };
export const accept: Verdict = { iptables: "-j ACCEPT", nftables: "accept" };
export const drop: Verdict = { iptables: "-j DROP", nftables: "drop" };

export function redirect(port: string): Verdict {
  return { iptables: `-j REDIRECT --to-ports ${port}`, nftables: `redirect to :${port}` };
}

export function setMark(mark: string): Verdict {
  return { iptables: `-j MARK --set-mark ${mark}`, nftables: `meta mark set ${mark}` };
}

export const saveMark: Verdict = { iptables: "-j CONNMARK --save-mark", nftables: "ct mark set mark" };
export const restoreMark: Verdict = { iptables: "-j CONNMARK --restore-mark", nftables: "meta mark set ct mark" };

export function tproxy(family: IpFamily, port: string, mark: string): Verdict {
  return {
    iptables: `-j TPROXY --tproxy-mark ${mark}/0xffffffff --on-port ${port}`,
    nftables: `tproxy ${family === 4 ? "ip" : "ip6"} to :${port} meta mark set ${mark} accept`,
  };
}

/** Connection tracking keeps the packets of different zones apart. */
export function zone(number: 1 | 2): Verdict {
  return { iptables: `-j CT --zone ${number}`, nftables: `ct zone set ${number}` };
}

const families: readonly IpFamily[] = [4, 6];

export function rule(table: Table, chain: Chain, match: readonly Part[], verdict: Verdict, family?: IpFamily): Rule {
  return { table, chain, match, verdict, family };
}

/** The same rule for both families, with what differs between them. */
export function perFamily(make: (family: IpFamily) => Rule): Rule[] {
  return families.map((family) => ({ ...make(family), family }));
}

export function familyOf(address: string): IpFamily {
  return address.includes(":") ? 6 : 4;
}

/** Whence the proxy calls its application on an address that was not looked up. */
export const passthroughSource: Readonly<Record<IpFamily, string>> = { 4: "127.0.0.6/32", 6: "::6/128" };

export function nftablesChain(chain: Chain): string {
  return chain.toLowerCase().replaceAll("_", "-");
}

const ip = (cidr: string) => (familyOf(cidr) === 6 ? "ip6" : "ip");
/** All that begin so: `veth+` in the one language, `veth*` in the other. */
const quoted = (device: string) => `"${device.replace(/\+$/, "*")}"`;
