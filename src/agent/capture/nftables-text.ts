/** Rules as input for `nft -f`: three tables of our own for both families, made anew in one transaction. */
import { chainsOf } from "./iptables-text.ts";
import { type Chain, type IpFamily, nftablesChain, type Rule, type Table } from "./rule.ts";

const tables: readonly Table[] = ["nat", "mangle", "raw"];

const hooks: Readonly<Record<Table, Readonly<Record<"PREROUTING" | "OUTPUT", string>>>> = {
  nat: { PREROUTING: "type nat hook prerouting priority -100", OUTPUT: "type nat hook output priority -100" },
  mangle: { PREROUTING: "type filter hook prerouting priority -150", OUTPUT: "type route hook output priority -150" },
  raw: { PREROUTING: "type filter hook prerouting priority -300", OUTPUT: "type filter hook output priority -300" },
};

/** Without rules: only takes away what is there. `families`: those that are captured. */
export function nftablesText(rules: readonly Rule[], families: readonly IpFamily[] = [4, 6]): string {
  return tables
    .flatMap((table) => {
      const own = rules.filter((rule) => rule.table === table);
      const name = `inet istio-proxy-${table}`;
      return [
        // A table that is not there can't be deleted, and is no error if it was made first.
        `add table ${name}`,
        `delete table ${name}`,
        ...(own.length === 0
          ? []
          : [
              `add table ${name}`,
              ...chains(name, table, own),
              ...(families.includes(6)
                ? []
                : hooked(own).map((chain) => `add rule ${name} ${nftablesChain(chain)} meta nfproto ipv6 return`)),
              ...ordered(own).map((rule) => ruleText(name, rule)),
            ]),
      ];
    })
    .concat("")
    .join("\n");
}

function chains(name: string, table: Table, rules: readonly Rule[]): string[] {
  return [
    ...hooked(rules).map((chain) => `add chain ${name} ${nftablesChain(chain)} { ${hooks[table][chain]} ; }`),
    ...chainsOf(rules).map((chain) => `add chain ${name} ${nftablesChain(chain as Chain)}`),
  ];
}

/** Where packets come in; a table is for both families. */
function hooked(rules: readonly Rule[]): ("PREROUTING" | "OUTPUT")[] {
  return (["PREROUTING", "OUTPUT"] as const).filter((chain) => rules.some((rule) => rule.chain === chain));
}

/** Places are taken into account here: the tables are ours, so that nothing needs to be inserted. */
function ordered(rules: readonly Rule[]): Rule[] {
  const byChain = new Map<Chain, Rule[]>();
  for (const rule of rules) {
    const chain = byChain.get(rule.chain) ?? [];
    byChain.set(rule.chain, chain);
    if (rule.at === undefined) chain.push(rule);
    else chain.splice(rule.at - 1, 0, rule);
  }
  return [...byChain.values()].flat();
}

function ruleText(name: string, { chain, match, verdict }: Rule): string {
  return ["add rule", name, nftablesChain(chain), ...match.map(({ nftables }) => nftables), "counter", verdict.nftables].join(" ");
}
