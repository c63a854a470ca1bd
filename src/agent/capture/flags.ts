import { CaptureError } from "./capture-settings.ts";

/** The flags of `istio-iptables`; each has a variable of its own, but for those that say otherwise. */
export interface CaptureFlag {
  readonly name: string;
  readonly short?: string;
  readonly help: string;
  readonly isSwitch?: true;
  /** Further variables; `null`: none at all, not even its own. */
  readonly variables?: readonly string[] | null;
}

export const captureFlags: readonly CaptureFlag[] = [
  { name: "envoy-port", short: "p", help: "port to which outbound TCP goes; 15001", variables: null },
  { name: "inbound-capture-port", short: "z", help: "port to which inbound TCP goes; 15006" },
  { name: "inbound-tunnel-port", short: "e", help: "inbound port that is left alone; 15008" },
  { name: "proxy-uid", short: "u", help: "users whose traffic is the proxy's own; $ENVOY_USER, istio-proxy" },
  { name: "proxy-gid", short: "g", help: "groups whose traffic is the proxy's own; the user's" },
  { name: "istio-inbound-interception-mode", short: "m", help: "REDIRECT or TPROXY" },
  { name: "istio-inbound-ports", short: "b", help: "inbound ports to capture, * for all; none" },
  { name: "istio-local-exclude-ports", short: "d", help: "inbound ports not to capture, where all others are" },
  { name: "istio-service-cidr", short: "i", help: "outbound address ranges to capture, * for all; none" },
  { name: "istio-service-exclude-cidr", short: "x", help: "outbound address ranges not to capture" },
  { name: "istio-outbound-ports", short: "q", help: "outbound ports to capture wherever they are" },
  { name: "istio-local-outbound-ports-exclude", short: "o", help: "outbound ports not to capture" },
  { name: "istio-exclude-interfaces", short: "c", help: "interfaces of which nothing is captured" },
  { name: "kube-virt-interfaces", short: "k", help: "interfaces behind which guests are, whose traffic counts as outbound" },
  { name: "istio-inbound-tproxy-mark", short: "t", help: "mark of packets in TPROXY mode; 1337" },
  { name: "istio-inbound-tproxy-route-table", short: "r", help: "routing table in TPROXY mode; 133" },
  {
    name: "redirect-dns",
    isSwitch: true,
    help: "capture name look-ups to the machine's name servers",
    variables: ["ISTIO_META_DNS_CAPTURE"],
  },
  { name: "capture-all-dns", isSwitch: true, help: "... to any name server" },
  { name: "drop-invalid", isSwitch: true, help: "drop packets that belong to no connection", variables: ["INVALID_DROP"] },
  {
    name: "dual-stack",
    isSwitch: true,
    help: "IPv6 too, whatever addresses there are; false: not beside IPv4 (default: by what addresses there are)",
    variables: ["ISTIO_DUAL_STACK"],
  },
  { name: "dry-run", short: "n", isSwitch: true, help: "print the rules and change nothing" },
  { name: "cleanup-only", isSwitch: true, help: "take all rules away" },
  { name: "skip-rule-apply", isSwitch: true, help: "set no rules; to validate those that are there" },
  { name: "run-validation", isSwitch: true, help: "see whether a connection of the proxy's user is redirected; 126 when it is not" },
  { name: "iptables-probe-port", help: "port that is called for that, and where nobody listens; 15002" },
  { name: "probe-timeout", help: "how long it may take until rules are there; 5s" },
  { name: "network-namespace", help: "file of the network namespace to work in, /run/netns/NAME or /proc/PID/ns/net; this one" },
  {
    name: "cni-mode",
    isSwitch: true,
    help: "programs of this machine for another namespace's rules: without the machine's lock for its own",
  },
  { name: "native-nftables", isSwitch: true, help: "nftables instead of iptables" },
  { name: "force-iptables-binary", help: "legacy or nft; what the machine uses" },
  // Rules are always brought from whatever they are to what they should be, so there is nothing to choose.
  { name: "reconcile", isSwitch: true, help: "no effect: always so" },
  { name: "force-apply", isSwitch: true, help: "no effect: always so" },
];

/** What the command line says, else the variables. Throws CaptureError for a switch that is neither on nor off. */
export function flagValues(
  given: Readonly<Record<string, string | boolean | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return Object.fromEntries(
    captureFlags.map(({ name, variables, isSwitch }) => {
      const value = given[name];
      const names = variables === null ? [] : [variableOf(name), ...(variables ?? [])];
      const text =
        value !== undefined ? String(value) : names.map((variable) => env[variable]).find((each) => each !== undefined && each !== "");
      return [name, isSwitch && text !== undefined ? switched(name, text) : text];
    }),
  );
}

/** As Go's programs take them. */
function switched(name: string, text: string): "true" | "false" {
  if (["true", "True", "TRUE", "t", "T", "1"].includes(text)) return "true";
  if (["false", "False", "FALSE", "f", "F", "0"].includes(text)) return "false";
  throw new CaptureError(`--${name}: "${text}" is neither true nor false`);
}

function variableOf(flag: string): string {
  return flag.toUpperCase().replaceAll("-", "_");
}
