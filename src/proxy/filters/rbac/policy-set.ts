/**
 * The policies of one RBAC message, in the order in which Envoy tries them: by name, byte for byte. The first that matches
 * counts and gives its name to statistics and logs.
 *
 * The first request of a connection works out what the connection decides (see condition.ts), later ones only meet what is left:
 * of a thousand policies for other clients nothing. No connection is remembered where no policy looks at connections.
 */
import { ConfigError } from "../../../api/config-error.ts";
import type { Policy as PolicyMessage } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import { all, always, any, type Condition, never } from "./condition.ts";
import { compilePermissions } from "./permission.ts";
import { compilePrincipals } from "./principal.ts";
import type { Subject } from "./subject.ts";

interface Policy {
  readonly name: string;
  readonly condition: Condition;
}

export class PolicySet {
  readonly #policies: readonly Policy[];
  readonly #onConnections: WeakMap<DownstreamConnection, readonly Policy[]> | null;

  constructor(messages: { readonly [name: string]: PolicyMessage }) {
    this.#policies = Object.entries(messages)
      .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map(([name, message]) => ({ name, condition: compilePolicy(name, message) }));
    const looksAtConnection = this.#policies.some(({ condition }) => condition.scope === "connection" || condition.scope === "mixed");
    this.#onConnections = looksAtConnection ? new WeakMap() : null;
  }

  /** Name of the first policy that matches, or null. For a subject that comes once. */
  match(subject: Subject): string | null {
    return firstMatch(this.#policies, subject);
  }

  /** The same, for one of many requests of a connection. Hot. */
  matchRequest(subject: Subject): string | null {
    if (this.#onConnections === null) return firstMatch(this.#policies, subject);
    let policies = this.#onConnections.get(subject.connection);
    if (policies === undefined) {
      policies = this.#resolve(subject);
      this.#onConnections.set(subject.connection, policies);
    }
    return firstMatch(policies, subject);
  }

  #resolve(subject: Subject): readonly Policy[] {
    const left: Policy[] = [];
    for (const policy of this.#policies) {
      const condition = policy.condition.resolve(subject);
      if (condition === never) continue;
      left.push(condition === policy.condition ? policy : { name: policy.name, condition });
      if (condition === always) break;
    }
    return left;
  }
}

function firstMatch(policies: readonly Policy[], subject: Subject): string | null {
  for (let i = 0; i < policies.length; i++) if (policies[i]!.condition.test(subject)) return policies[i]!.name;
  return null;
}

function compilePolicy(name: string, message: PolicyMessage): Condition {
  if (message.condition !== undefined || message.checkedCondition !== undefined) {
    throw new ConfigError(
      `Policy '${name}': ${message.condition ? "condition" : "checked_condition"} (CEL) is not supported by this proxy`,
    );
  }
  return all([any(compilePermissions(message.permissions)), any(compilePrincipals(message.principals))]);
}
