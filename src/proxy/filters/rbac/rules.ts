/** One RBAC message at work: whether a subject may pass, and by which policy. */
import { type RBAC, RBAC_Action } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import { PolicySet } from "./policy-set.ts";
import type { Subject } from "./subject.ts";

export class Rules {
  /** Policies of a LOG action don't forbid: they say whether the access log should have the request. */
  readonly isLog: boolean;
  readonly #allowsMatches: boolean;
  readonly #policies: PolicySet;

  constructor(message: RBAC) {
    this.isLog = message.action === RBAC_Action.LOG;
    this.#allowsMatches = message.action === RBAC_Action.ALLOW;
    this.#policies = new PolicySet(message.policies);
  }

  /** Name of the policy that decides, null when none matches. */
  match(subject: Subject): string | null {
    return this.#policies.match(subject);
  }

  /** The same, for one of many requests of a connection. Hot. */
  matchRequest(subject: Subject): string | null {
    return this.#policies.matchRequest(subject);
  }

  /** `policy`: what `match` said. */
  allows(policy: string | null): boolean {
    return this.isLog || (policy !== null) === this.#allowsMatches;
  }
}

/** What access logs show of a denial. */
export function denialDetails(policy: string | null): string {
  return `rbac_access_denied_matched_policy[${(policy || "none").replaceAll(/[ \t\f\v\n\r]/g, "_")}]`;
}
