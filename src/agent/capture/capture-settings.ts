/** What is to be captured: the settings of `istio-iptables`, checked, with the defaults filled in. */
import { isIP } from "node:net";
import { parseDurationMs } from "../../api/schema/duration.ts";
import { wildcardAddresses } from "../../lib/wildcard-address.ts";
import { type IpFamily, isOwnChain } from "./rule.ts";

export interface CaptureSettings {
  /** Ports of the proxy, as text since rules are text: outbound 15001, inbound 15006, and 15008, which is never redirected. */
  readonly proxyPort: string;
  readonly inboundCapturePort: string;
  readonly inboundTunnelPort: string;
  /** Whose traffic is the proxy's own; numbers or names. */
  readonly proxyUids: readonly string[];
  readonly proxyGids: readonly string[];
  readonly mode: "REDIRECT" | "TPROXY";
  readonly tproxyMark: string;
  readonly tproxyRouteTable: string;
  /** Empty: nothing that comes in is captured. */
  readonly inboundPorts: "*" | readonly string[];
  readonly inboundExcludedPorts: readonly string[];
  /** CIDRs; empty: nothing that goes out is captured, but for `outboundPorts`. */
  readonly includedRanges: "*" | readonly string[];
  readonly excludedRanges: readonly string[];
  readonly outboundPorts: readonly string[];
  readonly outboundExcludedPorts: readonly string[];
  readonly excludedInterfaces: readonly string[];
  /** Devices behind which machines are whose traffic counts as outbound. */
  readonly virtualInterfaces: readonly string[];
  readonly ownerGroups: { readonly except: readonly string[] } | { readonly only: readonly string[] };
  readonly dropInvalid: boolean;
  readonly dns: DnsCapture | undefined;
  /** IPv6 as well. Of a family on whose port nobody listens all connections would be refused. */
  readonly ipv6: boolean;
  /** IPv4 addresses by which applications of this machine call each other directly. */
  readonly loopbackCidr: string;
  readonly probe: ProbeSettings;
}

/** How rules are seen to work. */
export interface ProbeSettings {
  readonly port: number;
  readonly timeoutMs: number;
}

export interface DnsCapture {
  /** Addresses of name servers, or any server at port 53. */
  readonly servers: "any" | readonly string[];
}

/** What a machine says of itself. */
export interface MachineFacts {
  /** Numbers of the proxy's user and of its own group; undefined when there is no such user. */
  readonly proxyUser: { readonly uid: string; readonly gid: string } | undefined;
  readonly addresses: readonly string[];
  /** Of /etc/resolv.conf. */
  readonly nameServers: readonly string[];
}

/** A setting that can't be; the message names its flag. */
export class CaptureError extends Error {
  override readonly name = "CaptureError";
  /** Of the program. */
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The address by which packets stay on the machine without being an application's own loopback traffic. */
export function loopback(settings: CaptureSettings, family: IpFamily): string {
  return family === 4 ? settings.loopbackCidr : "::1/128";
}

/** Values of the flags by name (`istio-inbound-ports`), as given on the command line or by their variables. */
export type FlagValues = Readonly<Record<string, string | undefined>>;

/** Where there is no such user, as in Istio's images. */
const defaultId = "1337";

export function captureSettings(flags: FlagValues, env: FlagValues, machine: MachineFacts): CaptureSettings {
  const proxyUids = names(flags, "proxy-uid");
  const proxyGids = names(flags, "proxy-gid");
  const uids = proxyUids.length > 0 ? proxyUids : [machine.proxyUser?.uid ?? defaultId];
  // Istio takes the user's number for the group too, which is wrong wherever the two differ.
  const gids = proxyGids.length > 0 ? proxyGids : proxyUids.length > 0 ? uids : [machine.proxyUser?.gid ?? defaultId];
  const mode = flags["istio-inbound-interception-mode"] || "REDIRECT";
  if (mode !== "REDIRECT" && mode !== "TPROXY") throw wrong("istio-inbound-interception-mode", mode, "neither REDIRECT nor TPROXY");
  const excludedRanges = ranges(flags, "istio-service-exclude-cidr");
  if (excludedRanges === "*") throw wrong("istio-service-exclude-cidr", "*", "no list of ranges like 10.0.0.0/8");
  return {
    proxyPort: port(flags, "envoy-port", "15001"),
    inboundCapturePort: port(flags, "inbound-capture-port", "15006"),
    inboundTunnelPort: port(flags, "inbound-tunnel-port", "15008"),
    proxyUids: uids,
    proxyGids: gids,
    mode,
    tproxyMark: integer(flags, "istio-inbound-tproxy-mark", "1337", 0xffff_ffff),
    tproxyRouteTable: integer(flags, "istio-inbound-tproxy-route-table", "133", 0xffff_ffff),
    inboundPorts: flags["istio-inbound-ports"] === "*" ? "*" : ports(flags, "istio-inbound-ports"),
    inboundExcludedPorts: ports(flags, "istio-local-exclude-ports"),
    includedRanges: ranges(flags, "istio-service-cidr"),
    excludedRanges,
    outboundPorts: ports(flags, "istio-outbound-ports"),
    outboundExcludedPorts: ports(flags, "istio-local-outbound-ports-exclude"),
    excludedInterfaces: devices(flags, "istio-exclude-interfaces"),
    virtualInterfaces: devices(flags, "kube-virt-interfaces"),
    ownerGroups: ownerGroups(env),
    dropInvalid: flags["drop-invalid"] === "true",
    dns: dnsCapture(flags, machine),
    ipv6: flags["dual-stack"] === "true" || wildcardAddresses(machine.addresses, flags["dual-stack"] !== "false").includes("::"),
    loopbackCidr: loopbackCidr(env),
    probe: { port: Number(port(flags, "iptables-probe-port", "15002")), timeoutMs: probeTimeout(flags) },
  };
}

function dnsCapture(flags: FlagValues, { nameServers }: MachineFacts): DnsCapture | undefined {
  if (flags["redirect-dns"] !== "true") return undefined;
  if (flags["capture-all-dns"] === "true") return { servers: "any" };
  return nameServers.length > 0 ? { servers: nameServers } : undefined;
}

/** A single rule holds all included groups: more than 64 are too long for it. */
const maxOwnerGroups = 64;

function ownerGroups(env: FlagValues): CaptureSettings["ownerGroups"] {
  const included = "ISTIO_OUTBOUND_OWNER_GROUPS";
  if ((env[included] ?? "*") === "*") return { except: names(env, "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE") };
  const only = names(env, included);
  if (only.length > maxOwnerGroups) throw wrong(included, `${only.length} groups`, `more than ${maxOwnerGroups}`);
  return { only };
}

function loopbackCidr(env: FlagValues): string {
  const name = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR";
  const text = env[name] || "127.0.0.1/32";
  if (!isCidr(text) || !text.startsWith("127.") || Number(text.split("/")[1]) < 8) throw wrong(name, text, "no range of 127.0.0.0/8");
  return text;
}

function probeTimeout(flags: FlagValues): number {
  const name = "probe-timeout";
  const text = flags[name] || "5s";
  const ms = parseDurationMs(text);
  if (ms === undefined || ms < 1 || ms > 600_000) throw wrong(name, text, "no duration from 1ms to 10m");
  return ms;
}

/** Each once: of two rules that are the same only one would be found again. */
function list(values: FlagValues, name: string): string[] {
  const parts = (values[name] ?? "").split(",").map((part) => part.trim());
  return [...new Set(parts.filter((part) => part !== ""))];
}

function each(values: FlagValues, name: string, isGood: (text: string) => boolean, reason: string): string[] {
  const all = list(values, name);
  for (const one of all) if (!isGood(one)) throw wrong(name, one, reason);
  return all;
}

function port(values: FlagValues, name: string, fallback: string): string {
  const text = values[name] || fallback;
  if (!isPort(text)) throw wrong(name, text, "no port");
  return text;
}

function ports(values: FlagValues, name: string): string[] {
  return each(values, name, isPort, "no port");
}

function integer(values: FlagValues, name: string, fallback: string, max: number): string {
  const text = values[name] || fallback;
  if (!/^\d+$/.test(text) || Number(text) < 1 || Number(text) > max) throw wrong(name, text, `no number from 1 to ${max}`);
  return text;
}

function ranges(values: FlagValues, name: string): "*" | string[] {
  return values[name] === "*" ? "*" : each(values, name, isCidr, "no range like 10.0.0.0/8");
}

/** Users and groups; nothing that could end a rule's line. */
function names(values: FlagValues, name: string): string[] {
  return each(values, name, (text) => /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(text), "neither a name nor a number");
}

/** As the kernel allows them, without what the rules' languages would read otherwise. */
function devices(values: FlagValues, name: string): string[] {
  return each(values, name, (text) => /^[A-Za-z0-9_.@:-]{1,15}\+?$/.test(text) && !isOwnChain(text), "no name of an interface");
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;
}

function isCidr(text: string): boolean {
  const [address = "", bits = "", rest] = text.split("/");
  const family = isIP(address);
  return family !== 0 && rest === undefined && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
}

function wrong(name: string, text: string, reason: string): CaptureError {
  const where = /^[A-Z]/.test(name) ? name : `--${name}`;
  return new CaptureError(`${where}: "${text}" is ${reason}`);
}
