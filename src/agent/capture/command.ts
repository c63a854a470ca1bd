/** `pilot-agent istio-iptables` and `istio-clean-iptables`. */
import { Command, Option } from "commander";
import { log } from "../../lib/log.ts";
import { machineAddresses } from "../machine-addresses.ts";
import { applyCapture, type CaptureOptions, removeCapture } from "./capture.ts";
import { captureRules } from "./capture-rules.ts";
import { CaptureError, captureSettings, type FlagValues } from "./capture-settings.ts";
import { runCommand } from "./command-runner.ts";
import { onlySaying } from "./dry-run.ts";
import { captureFlags, flagValues } from "./flags.ts";
import { iptablesText } from "./iptables-text.ts";
import { loadMachineFacts, loadNameServices, passesByNameServers } from "./machine-facts.ts";
import { captureInNamespace, captureRecordFile } from "./network-namespace.ts";
import { nftablesText } from "./nftables-text.ts";
import { validateCapture } from "./validation.ts";

const scope = log.scope("capture");
type Environment = Readonly<Record<string, string | undefined>>;

export function captureCommands(env: Environment): Command[] {
  const apply = new Command("istio-iptables").description("Make a workload's traffic pass its proxy, or take that back");
  for (const { name, short, help, isSwitch } of captureFlags) {
    const flags = `${short ? `-${short}, ` : ""}--${name}${isSwitch ? " [boolean]" : " <value>"}`;
    apply.addOption(isSwitch ? new Option(flags, help).preset("true") : new Option(flags, help));
  }
  apply.action(async (_options, command: Command) => {
    // Commander turns names into camel case; the flags' own names are the keys here.
    const given = Object.fromEntries(command.options.map((option) => [option.name(), command.getOptionValue(option.attributeName())]));
    await runCapture(flagValues(given, env), env);
  });
  const clean = new Command("istio-clean-iptables")
    .description("Take back what istio-iptables did")
    .addOption(new Option("-n, --dry-run [boolean]", "say what would be taken back").preset("true"))
    // Istio's of old took those of istio-iptables, to know what to look for: it is written down here.
    .argument("[flags...]", "flags of istio-iptables, which have no effect")
    .allowUnknownOption()
    .action((_flags: string[], options: { dryRun?: string }) =>
      runCapture(flagValues({ "cleanup-only": "true", "dry-run": options.dryRun }, { NETWORK_NAMESPACE: env.NETWORK_NAMESPACE }), env),
    );
  return [apply, clean];
}

/** Throws CaptureError for a setting that can't be, CommandError for a tool that fails. */
export async function runCapture(flags: FlagValues, env: Environment): Promise<void> {
  const namespace = flags["network-namespace"];
  if (namespace) return captureInNamespace({ path: namespace, flags, env });
  if (flags["cni-mode"] === "true") throw new CaptureError("--cni-mode: needs --network-namespace");
  const variant = flags["force-iptables-binary"] || undefined;
  if (variant !== undefined && variant !== "legacy" && variant !== "nft")
    throw new CaptureError(`--force-iptables-binary: "${variant}" is neither legacy nor nft`);
  const nativeNftables = flags["native-nftables"] === "true";
  const options: CaptureOptions = { run: runCommand, recordFile: captureRecordFile(), nativeNftables, iptablesVariant: variant };
  const isDryRun = flags["dry-run"] === "true";
  if (flags["cleanup-only"] === "true") {
    if (isDryRun) return removeCapture({ ...options, run: onlySaying(runCommand, (text) => void process.stdout.write(text)) }, true);
    await removeCapture(options);
    scope.info("traffic is no longer captured");
    return;
  }
  const settings = captureSettings(flags, env, await loadMachineFacts(runCommand, env.ENVOY_USER || "istio-proxy"));
  if (!settings.ipv6 && machineAddresses().some(({ family }) => family === "IPv6"))
    scope.warn("IPv6 passes by the proxy, as dual-stack=false says");
  if (flags["redirect-dns"] === "true" && !settings.dns) scope.warn("name look-ups are not captured: /etc/resolv.conf names no server");
  if (settings.dns && passesByNameServers(await loadNameServices()))
    scope.warn("names of the mesh will not be found: programs ask systemd-resolved past the nameservers; leave resolve away", {
      file: "/etc/nsswitch.conf",
    });
  if (isDryRun) {
    const rules = captureRules(settings);
    const families = settings.ipv6 ? ([4, 6] as const) : ([4] as const);
    process.stdout.write(nativeNftables ? nftablesText(rules, families) : families.map((family) => iptablesText(rules, family)).join(""));
    return;
  }
  if (flags["skip-rule-apply"] !== "true") {
    await applyCapture(settings, options);
    scope.info("traffic is captured", { inbound: settings.inboundPorts, outbound: settings.includedRanges, mode: settings.mode });
  }
  if (flags["run-validation"] === "true") await validateCapture(settings);
}
