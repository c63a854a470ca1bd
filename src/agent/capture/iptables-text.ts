/** Rules as input for `iptables-restore --noflush`: what exists of ours goes and what is to be comes, each table in one step. */
import { type IpFamily, isOwnChain, type Rule, type Table } from "./rule.ts";

const tables: readonly Table[] = ["mangle", "nat", "raw"];

/** What is there of an earlier run, in one table: rules of built-in chains that lead to our chains, and our chains. */
export interface TableResidue {
  readonly rules: readonly string[];
  readonly chains: readonly string[];
}
export type Residue = Readonly<Record<Table, TableResidue>>;

/** For the rules of one family; a table without any line is left out. */
export function iptablesText(rules: readonly Rule[], family: IpFamily, residue?: Residue): string {
  return tables
    .map((table) =>
      tableText(
        table,
        rules.filter((rule) => rule.table === table && holdsFor(rule, family)),
        residue?.[table],
      ),
    )
    .join("");
}

function holdsFor(rule: Rule, family: IpFamily): boolean {
  return rule.family === undefined || rule.family === family;
}

function tableText(table: Table, rules: readonly Rule[], residue: TableResidue = { rules: [], chains: [] }): string {
  const lines = [
    ...residue.rules.map((rule) => rule.replace(/^-A /, "-D ")),
    ...residue.chains.map((chain) => `-F ${chain}`),
    ...residue.chains.map((chain) => `-X ${chain}`),
    ...chainsOf(rules).map((chain) => `-N ${chain}`),
    ...rules.map(ruleText),
  ];
  return lines.length === 0 ? "" : [`*${table}`, ...lines, "COMMIT", ""].join("\n");
}

/** Those with rules first, then those that are only led to. */
export function chainsOf(rules: readonly Rule[]): string[] {
  return [...new Set([...rules.map(({ chain }) => chain).filter(isOwnChain), ...rules.flatMap(({ verdict }) => verdict.chain ?? [])])];
}

export function ruleText({ chain, at, match, verdict }: Rule): string {
  return [at === undefined ? `-A ${chain}` : `-I ${chain} ${at}`, ...match.map(({ iptables }) => iptables), verdict.iptables].join(" ");
}

/** Rules of built-in chains that lead to none of ours: in a listing they can't be told from another's. */
export function unmarkedRules(rules: readonly Rule[], family: IpFamily): Rule[] {
  return rules.filter((rule) => holdsFor(rule, family) && !isOwnChain(rule.chain) && rule.verdict.chain === undefined);
}

/** Reads what `iptables-save` says. */
export function findResidue(saved: string): Residue {
  const found: Record<Table, { rules: string[]; chains: string[] }> = {
    raw: { rules: [], chains: [] },
    mangle: { rules: [], chains: [] },
    nat: { rules: [], chains: [] },
  };
  let table: (typeof found)[Table] | undefined;
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) table = found[line.slice(1).trim() as Table];
    else if (line.startsWith(":")) {
      const chain = line.slice(1).split(" ")[0]!;
      if (isOwnChain(chain)) table?.chains.push(chain);
    } else if (line.startsWith("-A ")) {
      const chain = line.split(" ")[1]!;
      if (!isOwnChain(chain) && / -[jg] ISTIO_/.test(line)) table?.rules.push(line);
    }
  }
  return found;
}
