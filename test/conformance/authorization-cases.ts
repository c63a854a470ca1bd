/** The tables of authorization/: cases of policies and requests, who asks in them, and how many cases stand side by side in one gateway. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { Ask } from "../support/http-ask.ts";
import { makeTokens } from "../support/jwt.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";

interface Operation {
  readonly ports?: readonly string[];
}

interface Rule {
  readonly from?: unknown;
  readonly to?: readonly { readonly operation: Operation }[];
  readonly when?: readonly unknown[];
}

export interface RequestCase extends Omit<Ask, "tls"> {
  /** A name of `clients`: the request comes over TLS, with that certificate. */
  readonly client?: string;
  readonly sni?: string;
  /** A name of `tokens`. */
  readonly token?: string;
  readonly port?: "http" | "http2";
}

export interface PolicyCase {
  readonly name: string;
  readonly allow?: readonly Rule[];
  readonly deny?: readonly Rule[];
  readonly audit?: readonly Rule[];
  readonly dryRun?: { readonly action: string; readonly rules: readonly Rule[] };
  /** Of connections: TLS ends at the gateway. */
  readonly tls?: boolean;
  readonly allowed?: readonly (string | RequestCase)[];
  readonly denied?: readonly (string | RequestCase)[];
}

export const files = ["actions", "addresses", "headers", "operations", "paths", "principals", "tokens"] as const;
const read = (name: string) => parse(readFileSync(join(import.meta.dirname, "authorization", `${name}.yaml`), "utf8")) as PolicyCase[];
export const httpCases = files.flatMap((file) => read(file).map((one) => ({ ...one, file })));
export const tcpCases = read("tcp");

export const ca = makeMeshCa();
export const clients: Readonly<Record<string, Identity>> = {
  alice: ca.issue("spiffe://cluster.local/ns/default/sa/alice"),
  carol: ca.issue("spiffe://cluster.local/ns/default/sa/carol"),
  dave: ca.issue("spiffe://cluster.local/ns/eu-prod/sa/dave"),
  erin: ca.issue("spiffe://cluster.local/ns/mesh/sa/erin"),
  bob: ca.issue("spiffe://old.domain/ns/other/sa/bob"),
  "foreign-alice": ca.issue("spiffe://foreign.domain/ns/default/sa/alice"),
  nobody: ca.issue("https://nobody.test/"),
};

export const issuer = "https://issuer.test";
export const made = makeTokens({
  keys: { rsa: {}, ec: { type: "P-256" } },
  jwks: { issuer: ["rsa"], other: ["ec"] },
  tokens: {
    alice: {
      key: "rsa",
      claims: {
        iss: issuer,
        sub: "alice",
        exp: "now+3600",
        aud: ["shop", "web"],
        azp: "app-1",
        tier: "gold",
        groups: ["user", "admin"],
        realm: { name: "main", roles: ["viewer", "editor"] },
        "https://claims.test/dept": "engineering",
        scope: "read:orders write:orders",
        level: 3,
      },
    },
    bob: {
      key: "rsa",
      claims: {
        iss: issuer,
        sub: "bob",
        exp: "now+3600",
        aud: "api-1",
        tier: "silver",
        groups: ["user"],
        realm: { roles: ["viewer"] },
        "https://claims.test/dept": "sales",
        scope: "read:orders",
      },
    },
    anonymous: { key: "rsa", claims: { iss: issuer, exp: "now+3600", aud: "none" } },
    other: { key: "ec", claims: { iss: "other.test", sub: "guest", exp: "now+3600", tier: "bronze" } },
    "other-alice": { key: "ec", claims: { iss: "other.test", sub: "alice", exp: "now+3600" } },
  },
});

export const object = (kind: string, namespace: string, name: string, spec: unknown, annotations: Record<string, string> = {}) =>
  stringify({
    apiVersion: `${["Gateway", "VirtualService", "ServiceEntry"].includes(kind) ? "networking" : "security"}.istio.io/v1`,
    kind,
    metadata: { name, namespace, annotations },
    spec,
  });
export const policy = (namespace: string, name: string, spec: unknown, annotations?: Record<string, string>) =>
  object("AuthorizationPolicy", namespace, name, spec, annotations);
export const selector = (app: string) => ({ matchLabels: { app } });

/** The policies of a case, its rules narrowed to it. */
function policiesOf(one: PolicyCase, id: string, app: string, narrowed: (rule: Rule) => Rule): string[] {
  const rulesOf = (rules: readonly Rule[]) => rules.map(narrowed);
  const of = (action: string, rules: readonly Rule[] | undefined) =>
    rules ? [policy("mesh", `${id}-${action.toLowerCase()}`, { selector: selector(app), action, rules: rulesOf(rules) })] : [];
  const { dryRun } = one;
  return [
    ...of("ALLOW", one.allow),
    ...of("DENY", one.deny),
    ...of("AUDIT", one.audit),
    ...(dryRun
      ? [
          policy(
            "mesh",
            `${id}-dry`,
            { selector: selector(app), action: dryRun.action, rules: rulesOf(dryRun.rules) },
            { "istio.io/dry-run": "true" },
          ),
        ]
      : []),
  ];
}

/** A case without anything that allows stands where all is allowed. */
export const isOpen = (one: PolicyCase) => one.allow === undefined;

export function httpPolicies(): string[] {
  const header = (name: string, value: string) => ({ key: `request.headers[${name}]`, values: [value] });
  return [
    policy("mesh", "open", { selector: selector("main"), rules: [{ when: [header("x-open", "open")] }] }),
    ...httpCases.flatMap((one, index) =>
      policiesOf(one, `http-${index}`, "main", (rule) => ({ ...rule, when: [...(rule.when ?? []), header("x-case", `${index}`)] })),
    ),
  ];
}

export function tcpPolicies(portOf: (index: number) => string): string[] {
  const open = tcpCases.flatMap((one, index) => (isOpen(one) ? [portOf(index)] : []));
  return [
    policy("mesh", "open-tcp", { selector: selector("tcp"), rules: [{ to: [{ operation: { ports: open } }] }] }),
    ...tcpCases.flatMap((one, index) => {
      const ports = [portOf(index)];
      return policiesOf(one, `tcp-${index}`, "tcp", (rule) => ({
        ...rule,
        to: (rule.to ?? [{ operation: {} }]).map(({ operation }) => ({ operation: { ports, ...operation } })),
      }));
    }),
  ];
}
