/**
 * Traffic capture put in force and taken back. What was done is written down first, so that it can be undone without today's settings:
 * after a crash, after an upgrade, after somebody edited them.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { writeWhole } from "../../lib/write-whole.ts";
import { captureRules } from "./capture-rules.ts";
import { CaptureError, type CaptureSettings } from "./capture-settings.ts";
import { type CommandRunner, succeeds } from "./command-runner.ts";
import { applyIptables, chooseIptables, type IptablesVariant, removeIptables, type UnmarkedRule, unmarkedRulesOf } from "./iptables.ts";
import { nftablesText } from "./nftables-text.ts";
import { addRoutes, type MarkedRoute, markedRoute, removeRoutes } from "./routes.ts";
import type { IpFamily, Rule } from "./rule.ts";

export interface CaptureOptions {
  readonly run: CommandRunner;
  /** Where it is written down; goes with a reboot, as the rules do. */
  readonly recordFile: string;
  readonly nativeNftables?: boolean;
  readonly iptablesVariant?: IptablesVariant | undefined;
}

interface CaptureRecord {
  readonly unmarked: readonly UnmarkedRule[];
  readonly route?: MarkedRoute | undefined;
}

const families: readonly IpFamily[] = [4, 6];

/** Replaces whatever capture is in force. Throws CaptureError or CommandError; then the former rules of the failed table still hold. */
export async function applyCapture(settings: CaptureSettings, options: CaptureOptions): Promise<void> {
  const { run, recordFile } = options;
  const rules = captureRules(settings);
  const used = settings.ipv6 ? families : families.slice(0, 1);
  const former = await readRecord(recordFile);
  const route = markedRoute(settings);
  const unmarked = options.nativeNftables ? [] : unmarkedRulesOf(rules, used);
  const known = [...former.unmarked, ...unmarked];
  await writeRecord(recordFile, { unmarked: known, route: route ?? former.route });
  if (former.route && (former.route.mark !== route?.mark || former.route.table !== route.table)) await removeRoutes(run, former.route);
  await addRoutes(run, route, used);
  if (options.nativeNftables) {
    await run("nft", ["-f", "-"], { input: nftablesText(rules, used) });
    for (const family of families) await removeIptables(run, family, known);
  } else {
    await withIptables(options, used, rules, known);
    await removeNftables(run);
  }
  await writeRecord(recordFile, { unmarked, route });
}

async function withIptables(
  { run, iptablesVariant }: CaptureOptions,
  used: readonly IpFamily[],
  rules: readonly Rule[],
  known: readonly UnmarkedRule[],
): Promise<void> {
  const tools = new Map<IpFamily, string>();
  for (const family of used) {
    const tool = await chooseIptables(run, family, iptablesVariant);
    if (!tool)
      throw new CaptureError(`${family === 4 ? "iptables" : "ip6tables"}${iptablesVariant ? `-${iptablesVariant}` : ""} is not installed`);
    tools.set(family, tool);
  }
  for (const [family, tool] of tools) await applyIptables(run, tool, family, rules, known);
  for (const family of families) await removeIptables(run, family, known, tools.get(family));
}

/** Resolves when nothing is captured any more; there may have been nothing. A dry run's commands must not do anything either. */
export async function removeCapture({ run, recordFile }: CaptureOptions, isDryRun = false): Promise<void> {
  const { unmarked, route } = await readRecord(recordFile);
  for (const family of families) await removeIptables(run, family, unmarked);
  await removeNftables(run);
  await removeRoutes(run, route);
  if (!isDryRun) await rm(recordFile, { force: true });
}

async function removeNftables(run: CommandRunner): Promise<void> {
  if (await succeeds(run, "nft", ["list", "table", "inet", "istio-proxy-nat"])) await run("nft", ["-f", "-"], { input: nftablesText([]) });
}

async function readRecord(file: string): Promise<CaptureRecord> {
  try {
    const record = JSON.parse(await readFile(file, "utf8")) as CaptureRecord;
    return { unmarked: record.unmarked ?? [], route: record.route };
  } catch {
    // Nothing was done, or it was written down badly: what can be found without it is found all the same.
    return { unmarked: [] };
  }
}

async function writeRecord(file: string, record: CaptureRecord): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o755 });
  await writeWhole(file, `${JSON.stringify(record)}\n`, 0o600);
}
