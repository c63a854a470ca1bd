/**
 * Puts rules into the kernel by the iptables tools. There are two that keep separate books, legacy and nft: rules belong into the one
 * that the machine already uses, and leftovers of ours are looked for in both.
 */
import { type CommandRunner, succeeds } from "./command-runner.ts";
import { findResidue, iptablesText, type Residue, ruleText, unmarkedRules } from "./iptables-text.ts";
import type { IpFamily, Rule, Table } from "./rule.ts";

export type IptablesVariant = "legacy" | "nft";

/** `iptables`, `ip6tables-legacy` ...; to which `-save` and `-restore` can be added. */
type Tool = string;

const toolName: Readonly<Record<IpFamily, string>> = { 4: "iptables", 6: "ip6tables" };
/** Others may hold the lock: Docker, firewalld. */
const wait = ["--wait", "30"] as const;

/** A rule of a built-in chain that its listing does not show to be ours: where it is, and as `-A CHAIN ...`. */
export interface UnmarkedRule {
  readonly family: IpFamily;
  readonly table: Table;
  readonly text: string;
}

export function unmarkedRulesOf(rules: readonly Rule[], families: readonly IpFamily[]): UnmarkedRule[] {
  return families.flatMap((family) =>
    unmarkedRules(rules, family).map(({ at: _, ...rule }) => ({ family, table: rule.table, text: ruleText(rule) })),
  );
}

/** The tool whose books are to have the rules; undefined when none is installed. */
export async function chooseIptables(run: CommandRunner, family: IpFamily, forced?: IptablesVariant): Promise<Tool | undefined> {
  const name = toolName[family];
  if (forced) return (await isInstalled(run, `${name}-${forced}`)) ? `${name}-${forced}` : undefined;
  const present = await presentTools(run, family);
  for (const tool of present) if (tool.endsWith("-legacy") && /^-A |^:[A-Z_]+ - /m.test(await saved(run, tool))) return tool;
  return present.find((tool) => tool.endsWith("-nft")) ?? present.find((tool) => tool === name) ?? present[0];
}

/** In one step for each table: what was there of ours is replaced. */
export async function applyIptables(
  run: CommandRunner,
  tool: Tool,
  family: IpFamily,
  rules: readonly Rule[],
  unmarked: readonly UnmarkedRule[],
): Promise<void> {
  const residue = await residueOf(run, tool, family, unmarked);
  await run(`${tool}-restore`, [...wait, "--noflush"], { input: iptablesText(rules, family, residue) });
}

/** Takes what is ours out of all books but the one that is spared. Resolves with the tools whose books had any. */
export async function removeIptables(
  run: CommandRunner,
  family: IpFamily,
  unmarked: readonly UnmarkedRule[],
  spared?: Tool,
): Promise<Tool[]> {
  const had: Tool[] = [];
  for (const tool of await presentTools(run, family)) {
    if (tool === spared || isSame(tool, spared)) continue;
    const text = iptablesText([], family, await residueOf(run, tool, family, unmarked));
    if (text === "") continue;
    await run(`${tool}-restore`, [...wait, "--noflush"], { input: text });
    had.push(tool);
  }
  return had;
}

/** Plain `iptables` is a link to one of the two; which one is not worth finding out where both are there by name. */
function isSame(tool: Tool, spared: Tool | undefined): boolean {
  return spared !== undefined && !tool.includes("-") && spared.startsWith(`${tool}-`);
}

async function presentTools(run: CommandRunner, family: IpFamily): Promise<Tool[]> {
  const name = toolName[family];
  const named: Tool[] = [];
  for (const variant of ["legacy", "nft"]) if (await isInstalled(run, `${name}-${variant}`)) named.push(`${name}-${variant}`);
  if (named.length > 0) return named;
  return (await isInstalled(run, name)) ? [name] : [];
}

function isInstalled(run: CommandRunner, tool: Tool): Promise<boolean> {
  return succeeds(run, tool, ["--version"]);
}

/** A kernel without this family or these books has no rules. */
async function saved(run: CommandRunner, tool: Tool): Promise<string> {
  try {
    return await run(`${tool}-save`, []);
  } catch {
    return "";
  }
}

async function residueOf(run: CommandRunner, tool: Tool, family: IpFamily, unmarked: readonly UnmarkedRule[]): Promise<Residue> {
  const found = findResidue(await saved(run, tool));
  const rules: Record<Table, string[]> = { raw: [], mangle: [], nat: [] };
  for (const rule of unmarked) {
    if (rule.family !== family || rules[rule.table].includes(rule.text)) continue;
    const check = ["-t", rule.table, ...rule.text.replace(/^-A/, "-C").split(" ")];
    if (await succeeds(run, tool, [...wait, ...check])) rules[rule.table].push(rule.text);
  }
  const withUnmarked = (table: Table) => ({ rules: [...rules[table], ...found[table].rules], chains: found[table].chains });
  return { raw: withUnmarked("raw"), mangle: withUnmarked("mangle"), nat: withUnmarked("nat") };
}
